import pytest
import torch

from attentions import Geometry, build_attention, build_layer
from tests.attentions.calls import call_of

GEOMETRY = Geometry(num_heads=6, num_kv_heads=2, head_dim=8, seq_len=12)


def qkv():
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(2, 6, 12, 8, generator=generator)
    k, v = torch.randn(2, 2, 2, 12, 8, generator=generator)
    return q, k, v


def test_a_layer_projects_to_fewer_heads_of_keys_and_values():
    layer = build_layer("linear", GEOMETRY)
    assert layer.qkv.weight.shape == (48 + 16 + 16, 48)
    x = torch.randn(2, 12, 48)
    assert layer(x).shape == x.shape
    shape = call_of(12, 8, batch_size=2, num_heads=6)
    core = build_attention("linear", GEOMETRY)
    assert layer.flops(shape) - core.flops(shape) == 2 * 24 * 48 * (80 + 48)


@pytest.mark.parametrize("name", ["linear", "efficient"])
def test_hooks_of_the_core_are_called(name):
    shared, seen = build_attention(name, GEOMETRY), []
    shared.core.register_forward_hook(lambda core, inputs, out: seen.append(out))
    out = shared(*qkv())
    assert len(seen) == 1 and torch.equal(seen[0], out)
