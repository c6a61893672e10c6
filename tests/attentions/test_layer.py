import pytest
import torch

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


@torch.no_grad()
def test_every_mechanism_can_be_had_as_a_layer():
    for name in NAMES:
        layer = build(name)
        assert isinstance(layer, AttentionLayer if name not in CORES else MultiHeadAttention), name
        assert layer(torch.randn(3, 12, 16)).shape == (3, 12, 16), name


@torch.no_grad()
@pytest.mark.parametrize("name", ["softmax", "linear", "nala", "gla"])
def test_a_layer_projects_mixes_and_projects_back(name):
    layer = build(name, value_dim=6).double()
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
    layer, x = build("gla"), torch.randn(3, 12, 16)
    log_decay = -torch.rand(3, 2, 12, 8)
    q, k, v = layer._project(x)
    mixed = layer.core(q, k, v, log_decay=log_decay).transpose(1, 2).flatten(2)
    assert torch.equal(layer(x, log_decay=log_decay), layer.proj(mixed))
    with pytest.raises(ValueError, match="log_decay"):
        build("linear")(x, log_decay=log_decay)


def test_every_core_gets_the_same_projections():
    sizes = {
        name: sum(p.numel() for p in build(name).parameters())
        - sum(p.numel() for p in build(name).core.parameters())
        for name in CORES
    }
    assert set(sizes.values()) == {16 * 48 + 48 + 16 * 16 + 16}


def test_projections_can_go_without_bias():
    core = build_attention("softmax", Geometry(num_heads=2, head_dim=8, seq_len=12))
    layer = MultiHeadAttention(core, bias=False)
    assert [name for name, _ in layer.named_parameters()] == ["qkv.weight", "proj.weight"]


def test_hyperparameters_reach_the_core():
    assert build("linear", eps=0.5).core.eps == 0.5


def test_costs_are_those_of_the_core_and_of_the_projections():
    layer = build("linear", value_dim=6)
    shape = call_of(12, 8, 6, batch_size=3)
    projections = 2 * 3 * 12 * 16 * (16 + 16 + 12 + 12)
    assert layer.flops(shape) == projections + layer.core.flops(shape)
    assert layer.executed_flops(shape) == projections + layer.core.executed_flops(shape)
    step = build("gla", value_dim=6)
    assert step.decode_flops(shape) == projections // 12 + step.core.decode_flops(shape)
