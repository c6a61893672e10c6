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


def test_uneven_sharing_wrong_heads_and_layers_are_refused():
    with pytest.raises(ValueError, match="num_kv_heads is 4; a divisor of num_heads, 6"):
        Geometry(num_heads=6, num_kv_heads=4, head_dim=8, seq_len=12)
    q, _, _ = qkv()
    with pytest.raises(ValueError, match=r"k of \(2, 6, .*; .*\(B, 2, M, 8\)"):
        build_attention("linear", GEOMETRY)(q, q, q)
    with pytest.raises(ValueError, match="owns its projections"):
        build_attention("nala_layer", GEOMETRY)


@pytest.mark.parametrize("name", ["sliding_window", "moba", "cosformer"])
def test_a_mask_that_the_core_does_not_take_is_refused(name):
    geometry = Geometry(num_heads=6, num_kv_heads=2, head_dim=8, seq_len=12, causal=True)
    seen = torch.ones(2, 12, dtype=torch.bool)
    with pytest.raises(ValueError, match=f"{name}: key_mask was given; it takes no such"):
        build_attention(name, geometry)(*qkv(), key_mask=seen)


@pytest.mark.parametrize("name", ["linear", "efficient"])
def test_hooks_of_the_core_are_called(name):
    shared, seen = build_attention(name, GEOMETRY), []
    shared.core.register_forward_hook(lambda core, inputs, out: seen.append(out))
    out = shared(*qkv())
    assert len(seen) == 1 and torch.equal(seen[0], out)
