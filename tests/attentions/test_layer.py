import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import attentions
from attentions import Geometry, MultiHeadAttention, build_attention, build_layer
from attentions.base import Attention, AttentionLayer
from tests.attentions.calls import call_of
from tests.attentions.small import NAMES

CORES = [n for n in NAMES if issubclass(attentions.attention_class(n), Attention)]


def build(name, value_dim=8, **settings):
    causal = not attentions.attention_class(name).capabilities.bidirectional
    geometry = Geometry(num_heads=2, head_dim=8, seq_len=12, value_dim=value_dim, causal=causal)
    return build_layer(name, geometry, **settings)


def plain(name, value_dim=8, **settings):
    return MultiHeadAttention(build(name, value_dim, **settings).core)


@torch.no_grad()
@pytest.mark.parametrize("name", ["softmax", "linear", "nala", "gla"])
def test_a_layer_projects_mixes_and_projects_back(name):
    layer = plain(name, value_dim=6).double()
    x = torch.randn(3, 12, 16, dtype=torch.float64)
    q, k, v = layer.qkv(x).split([16, 16, 12], dim=-1)
    heads = [part.unflatten(-1, (2, -1)).transpose(1, 2) for part in (q, k, v)]
    expected = layer.proj(layer.core(*heads).transpose(1, 2).flatten(2))
    torch.testing.assert_close(layer(x), expected)
    torch.testing.assert_close(layer(x), layer.reference(x))


@torch.no_grad()
def test_keys_and_values_of_shared_heads_are_projected_once_and_meet_all_queries_of_a_group():
    geometry = Geometry(num_heads=4, head_dim=4, seq_len=12, num_kv_heads=2)
    layer, x = build_layer("softmax", geometry), torch.randn(3, 12, 16)
    parts = layer.qkv(x).split([16, 8, 8], dim=-1)
    q, k, v = (part.unflatten(-1, (-1, 4)).transpose(1, 2) for part in parts)
    mixed = torch.nn.functional.scaled_dot_product_attention(
        q, k[:, [0, 0, 1, 1]], v[:, [0, 0, 1, 1]]
    )
    torch.testing.assert_close(layer(x), layer.proj(mixed.transpose(1, 2).flatten(2)))


@torch.no_grad()
def test_gates_go_on_to_the_core_that_takes_them():
    layer, x = plain("gla"), torch.randn(3, 12, 16)
    log_decay = -torch.rand(3, 2, 12, 8)
    (q, k, v), _ = layer._project(x)
    mixed = layer.core(q, k, v, log_decay=log_decay).transpose(1, 2).flatten(2)
    assert torch.equal(layer(x, log_decay=log_decay), layer.proj(mixed))
    with pytest.raises(ValueError, match="log_decay"):
        build("linear")(x, log_decay=log_decay)


def test_every_core_gets_the_same_projections():
    sizes = {
        name: sum(p.numel() for p in plain(name).parameters())
        - sum(p.numel() for p in plain(name).core.parameters())
        for name in CORES
    }
    assert set(sizes.values()) == {16 * 48 + 48 + 16 * 16 + 16}


def test_costs_are_those_of_the_core_and_of_the_projections():
    layer = build("linear", value_dim=6)
    shape = call_of(12, 8, 6, batch_size=3)
    projections = 2 * 3 * 12 * 16 * (16 + 16 + 12 + 12)
    assert layer.flops(shape) == projections + layer.core.flops(shape)
    assert layer.executed_flops(shape) == projections + layer.core.executed_flops(shape)
    step = plain("gla", value_dim=6)
    assert step.decode_flops(shape) == projections // 12 + step.core.decode_flops(shape)


CAUSAL = [n for n in NAMES if attentions.attention_class(n).capabilities.recurrent]
MASKED = [n for n in NAMES if "padding" in attentions.attention_class(n).capabilities.masks]
EXTRAS = st.fixed_dictionaries(
    {
        "rope": st.booleans(),
        "qk_norm": st.sampled_from(["none", "rms", "unit"]),
        "conv_size": st.sampled_from([None, 0, 3]),
        "output_gate": st.sampled_from(["none", "silu", "sigmoid", "low_rank"]),
        "head_norm": st.sampled_from(["none", "rms", "layer", "gated_rms"]),
        "skip": st.booleans(),
        "gates": st.sampled_from(["tokens", "learned"]),
    }
)


def around(name, extras):
    """A mechanism as a layer: its own, or with settings around it that it does not take itself."""
    causal = name in CAUSAL
    geometry = Geometry(num_heads=2, head_dim=8, seq_len=12, causal=causal, grid=(3, 4))
    core = build_attention(name, geometry)
    if not isinstance(core, AttentionLayer):
        core = MultiHeadAttention(core, **extras)
    with torch.no_grad():
        for parameter in core.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return core.double()


@torch.no_grad()
@settings(max_examples=6, deadline=None)
@given(extras=EXTRAS, cuts=st.sets(st.integers(1, 11)))
@pytest.mark.parametrize("name", CAUSAL)
def test_steps_in_whatever_pieces_give_what_one_pass_gives(name, extras, cuts):
    layer, x = around(name, extras), torch.randn(2, 12, 16, dtype=torch.float64)
    state, outputs, ends = layer.init_state(2, dtype=x.dtype, device=x.device), [], [*sorted(cuts)]
    for start, end in zip([0, *ends], [*ends, 12], strict=True):
        out, state = layer.step(x[:, start:end], state)
        outputs.append(out)
    torch.testing.assert_close(torch.cat(outputs, dim=1), layer(x), atol=1e-11, rtol=0)


@torch.no_grad()
@settings(max_examples=6, deadline=None)
@given(extras=EXTRAS, hidden=st.integers(1, 11), seed=st.integers(0, 99))
@pytest.mark.parametrize("name", MASKED)
def test_hidden_tokens_are_as_good_as_removed(name, extras, hidden, seed):
    if name not in CAUSAL:  # the order of its tokens is not that of a sequence
        extras = extras | {"rope": False, "conv_size": None}
    layer, x = around(name, extras), torch.randn(2, 12, 16, dtype=torch.float64)
    kept = torch.rand(2, 12, generator=torch.Generator().manual_seed(seed)).argsort(dim=1) >= hidden
    spoilt = x.masked_fill(~kept.unsqueeze(-1), torch.nan)
    out = layer(spoilt, key_mask=kept)
    if name in CAUSAL:
        alone = layer(x[kept].unflatten(0, (2, -1)))
        torch.testing.assert_close(out[kept].unflatten(0, (2, -1)), alone, atol=1e-11, rtol=0)
    else:
        assert torch.equal(out[kept], layer(x, key_mask=kept)[kept])


GATED = [n for n in CORES if attentions.attention_class(n).capabilities.gates]


@pytest.mark.parametrize("name", GATED)
def test_a_gated_mechanism_takes_its_gates_from_the_tokens_unless_told_otherwise(name):
    few = {"block_size": 4, "num_blocks": 3, "window": 4} if name == "nsa" else {}
    layer, x = build(name, **few), torch.randn(2, 12, 16)
    gates = layer.gates(x)[0]
    assert {*gates} == {n for n, g in layer.core.gates.items() if g.activation != "key"}
    for gate, value in gates.items():
        declared, tokens = layer.core.gates[gate], layer.core.gates[gate].shape.index("n")
        assert value.shape == layer.core.gate_shape(gate, 2, 12)
        assert bool(((value >= declared.low) & (value <= declared.high)).all())
        assert bool((value.std(dim=tokens) > 0).all())
    layer(x).square().mean().backward()
    unused = [n for n, p in layer.named_parameters() if p.requires_grad and p.grad is None]
    assert not unused or layer.capabilities.auxiliary_loss
    learned = build(name, gates="learned")
    assert learned.gates is None and learned(x).shape == x.shape


def test_mamba2_writes_values_times_their_step():
    layer, x = build("mamba2_ssd").double(), torch.randn(1, 1, 16, dtype=torch.float64)
    seen = []
    layer.core.register_forward_pre_hook(lambda _, given: seen.append(given[2]))
    layer(x)
    (_, _, v), _ = layer._project(x)
    step, of = layer.gates["log_decay"].step(x)[0], layer.gates["log_decay"]
    expected = torch.nn.functional.softplus(of.project(x) + of.decay.step_bias)
    torch.testing.assert_close(step, expected.mT)
    torch.testing.assert_close(seen[0], v * step[..., None])
