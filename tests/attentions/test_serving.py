"""Windows beside padding, gradients through steps, states used up, packs, shared heads."""

import math

import pytest
import torch
from torch.nn import functional

from attentions import Geometry, attention_class, attention_names, build_attention, build_layer
from attentions import functional as mixing
from attentions.testing.checks.serving import padding_on_the_left_or_on_the_right_changes_nothing
from attentions.testing.forms import Form
from tests.attentions.calls import built
from tests.refusals import refused

N = 11
CPU = torch.device("cpu")
STEPPING = [
    name
    for name in attention_names()
    if (can := attention_class(name).capabilities).recurrent
    and not can.requires
    and "core" in can.scopes
]
CACHES = ["dsa", "fox", "gated_attention", "moba", "sliding_window", "softmax", "topk"]


def drawn(core, batch_size, length=N):
    """Queries, keys and values, and gates by their names, in their ranges."""
    g, gates = core.geometry, {}
    for name, gate in core.gates.items():
        x = torch.randn(core.gate_shape(name, batch_size, length), dtype=torch.double)
        if gate.is_log_decay:
            x = -x.abs()
        elif math.isfinite(gate.low) and math.isfinite(gate.high):
            x = gate.low + (gate.high - gate.low) * x.sigmoid()
        elif gate.low == 0:
            x = x.abs()
        gates[name] = functional.normalize(x, dim=-1) if gate.unit else x
    sizes = (3, batch_size, g.num_heads, length, g.head_dim)
    return torch.randn(sizes, dtype=torch.double), gates


def some(core, tokens, gates, rows=slice(None), at=slice(None)):
    """Positional and keyword arguments of a call with some rows and tokens."""
    places = {name: core.gates[name].shape.index("n") for name in gates}
    some_gates = {name: x[rows][(slice(None),) * places[name] + (at,)] for name, x in gates.items()}
    return tokens[:, rows, :, at], some_gates


def decoded(core, tokens, gates, parts):
    state = core.init_state(tokens.shape[1], dtype=tokens.dtype, device=CPU)
    outputs, end = [], 0
    for size in parts:
        given_tokens, keywords = some(core, tokens, gates, at=slice(end, end := end + size))
        out, state = core.step(*given_tokens, state, **keywords)
        outputs.append(out)
    return torch.cat(outputs, dim=2)


@pytest.mark.parametrize("name", ["fox", "softmax_sinks"])
def test_padding_changes_nothing_within_a_window(name):
    form = Form(name=name, causal=True, settings={"window": 3})
    padding_on_the_left_or_on_the_right_changes_nothing(form, lambda *_: None)


@pytest.mark.parametrize("name", STEPPING)
def test_gradients_through_steps_are_those_of_the_whole(name):
    core = built(name, causal=True, seq_len=N, stir=0.1)
    tokens, gates = drawn(core, 1)
    tokens.requires_grad_()
    wanted = (tokens, *core.parameters())
    found = [
        torch.autograd.grad(out.sin().sum(), wanted, allow_unused=True)
        for out in (decoded(core, tokens, gates, [4, 1, 1, 5]), core(*tokens, **gates))
    ]
    torch.testing.assert_close(*found)


@torch.no_grad()  # with gradients no memory is shared
@pytest.mark.parametrize("name", CACHES)
def test_a_state_whose_memory_went_another_way_is_refused(name):
    core = built(name, causal=True, seq_len=N)
    one, two, three = torch.randn(3, 3, 1, 2, 1, 4, dtype=torch.double)
    start = core.init_state(1, dtype=torch.double, device=CPU)
    kept = core.clone_state(start)
    first, after = core.step(*one, start)
    torch.testing.assert_close(core.step(*one, start)[0], first)  # as a clock does
    with refused(f"{name}: the state is used up: .* clone_state"):
        core.step(*two, after)  # from the first of two ways on
    _, after = core.step(*one, start)
    core.step(*three, core.step(*two, after)[1])
    with refused(f"{name}: the state is used up"):
        core.step(*one, start)
    torch.testing.assert_close(core.step(*one, kept)[0], first)


def test_bounds_that_are_none_are_refused_in_words():
    core = built("kda", causal=True, seq_len=N)
    tokens, _ = drawn(core, 1)
    for wrong in ([0, 5], [1, N], [0, 7, 5, N], [0.0, N], []):
        with refused("kda: cu_seqlens is .* that rises from 0 to the number of tokens, 11"):
            core(*tokens, cu_seqlens=torch.tensor(wrong))
    bounds = torch.tensor([0, N])
    with refused("kda: cu_seqlens was given and q, k and v are of .*; one row"):
        core(*drawn(core, 2)[0], cu_seqlens=bounds)
    with refused("nala: cu_seqlens was given, which has no form in it; a call for each"):
        built("nala", seq_len=N)(*tokens, cu_seqlens=bounds)
    out = mixing.mix("kda", *tokens, is_causal=True, cu_seqlens=bounds)
    torch.testing.assert_close(out, core(*tokens))


@pytest.mark.parametrize("name", ["gated_deltanet", "kda", "linear", "softmax", "fox"])
def test_more_heads_of_values_equal_queries_and_keys_that_are_repeated(name):
    sizes = {"head_dim": 4, "seq_len": N, "causal": True}
    core = build_attention(name, Geometry(num_heads=2, num_value_heads=6, **sizes)).double()
    own = build_attention(name, Geometry(num_heads=6, **sizes)).double()
    assert not core.core.load_state_dict(own.state_dict()).missing_keys
    (q, k, v), gates = drawn(own, 2)
    q, k = q[:, ::3], k[:, ::3]
    repeated = [x.repeat_interleave(3, dim=1) for x in (q, k)]
    expected = own(*repeated, v, **gates)
    torch.testing.assert_close(core(q, k, v, **gates), expected)
    state, outputs = core.init_state(2, dtype=torch.double, device=CPU), []
    for at in (slice(0, 7), slice(7, N)):
        some_gates = {gate: x[:, :, at] for gate, x in gates.items()}
        out, state = core.step(q[:, :, at], k[:, :, at], v[:, :, at], state, **some_gates)
        outputs.append(out)
    torch.testing.assert_close(torch.cat(outputs, dim=2), expected)
    layer = build_layer(name, Geometry(num_heads=2, num_value_heads=6, **sizes))
    x = torch.randn(1, N, 8)
    assert layer(x).shape == x.shape
