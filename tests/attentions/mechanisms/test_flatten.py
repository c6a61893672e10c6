import pytest
import torch

from attentions import Geometry, build_attention, build_layer


def build(seq_len=9, **settings):
    geometry = Geometry(num_heads=2, head_dim=4, seq_len=seq_len)
    core = build_attention("flatten", geometry, **settings).double()
    torch.nn.init.normal_(core.scale)
    return core


def build_on_grid(grid=(4, 6), **settings):
    geometry = Geometry(num_heads=2, head_dim=4, seq_len=grid[0] * grid[1], grid=grid)
    layer = build_layer("flatten_layer", geometry, **settings).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return layer


def test_heads_are_independent_only_with_norms_over_one_head(qkv):
    q, k, v = qkv(1, 2, 9, 4)
    louder = q.clone()
    louder[:, 0, :, 0] += 10
    for norm_over, same in (("head", True), ("all_heads", False)):
        core = build(norm_over=norm_over)
        assert torch.equal(core(q, k, v)[:, 1], core(louder, k, v)[:, 1]) == same


def test_a_high_focusing_factor_does_not_underflow_in_float32(qkv):
    q, k, v = (x.float() for x in qkv(1, 2, 9, 4))
    core = build(focusing_factor=16).float()
    tiny = core(1e-4 * q, 1e-4 * k, v)
    wide = core.double()(1e-4 * q.double(), 1e-4 * k.double(), v.double())
    torch.testing.assert_close(tiny.double(), wide, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("sr_ratio", [1, 2])
@pytest.mark.parametrize("norm_over", ["all_heads", "head"])
def test_the_layer_equals_its_explicit_form(sr_ratio, norm_over):
    layer = build_on_grid(sr_ratio=sr_ratio, norm_over=norm_over, kernel_size=3)
    x = torch.randn(2, 24, 8, dtype=torch.float64, requires_grad=True)
    out, expected = layer(x), layer.reference(x)
    torch.testing.assert_close(out, expected)
    cotangent = torch.randn_like(out)
    wanted = [x, *layer.parameters()]
    got = torch.autograd.grad(out, wanted, cotangent)
    for a, b in zip(got, torch.autograd.grad(expected, wanted, cotangent), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("grid", "sr_ratio"), [((4, 4), 1), ((4, 4), 2), ((32, 40), 1)])
def test_a_layer_gives_the_same_whether_or_not_gradients_are_wanted(grid, sr_ratio, dtype):
    geometry = Geometry(num_heads=2, head_dim=4, seq_len=grid[0] * grid[1], grid=grid)
    layer = build_layer("flatten_layer", geometry, sr_ratio=sr_ratio).to(dtype)
    x = torch.randn(3, geometry.seq_len, 8, dtype=dtype)
    with torch.no_grad():
        found = layer(x)
    torch.testing.assert_close(found, layer(x).detach())
