import pytest
import torch
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from attentions import Geometry, build_attention, build_layer
from tests.attentions.calls import call_of
from tests.attentions.mechanisms import explicit_pairs


def build(grid=(3, 4), head_dim=8, value_dim=0, **settings):
    sizes = {"num_heads": 2, "head_dim": head_dim, "value_dim": value_dim}
    geometry = Geometry(**sizes, seq_len=grid[0] * grid[1], grid=grid)
    return build_attention("nala", geometry, **settings)


def angles_by_hand(grid, dim):
    """Rows turn the first half of the channels, columns the second; two channels share an angle."""
    steps = dim // 4 - 1
    angles = torch.empty(grid[0] * grid[1], dim)
    for token in range(len(angles)):
        for c in range(dim):
            place = divmod(token, grid[1])[0 if c < dim // 2 else 1]
            pair = c % (dim // 2) // 2
            angles[token, c] = place * 10_000 ** (-pair / steps if steps else 0.0)
    return angles


@pytest.mark.parametrize(("grid", "head_dim"), [((3, 4), 8), ((4, 3), 4), ((2, 5), 12)])
def test_rope_turns_the_numerators_features_by_row_and_column(grid, head_dim, qkv):
    q, k, v = qkv(1, 2, grid[0] * grid[1], head_dim)
    core = build(grid, head_dim, rope=True)
    expected = explicit_pairs.nala(core, q, k, v, angles=angles_by_hand(grid, head_dim))
    torch.testing.assert_close(core(q, k, v), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(core(q, k, v), core.reference(q, k, v))


@pytest.mark.parametrize("rope", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_a_zero_query_gives_zeros_and_harms_no_gradient(rope, dtype, qkv):
    q, k, v = (x.to(dtype) for x in qkv(1, 2, 12, 8))
    q[:, :, 4] = 0
    q, k, v = (x.requires_grad_() for x in (q, k, v))
    out = build(rope=rope)(q, k, v)
    assert out[:, :, 4].eq(0).all()
    assert out.isfinite().all()
    gradients = torch.autograd.grad(out.sum(), (q, k, v))
    assert all(g.isfinite().all() for g in gradients)
    assert gradients[0][:, :, 4].eq(0).all()
    assert all(g[:, :, :4].ne(0).any() for g in gradients)


def layer_by_hand(layer, x, grid):
    """Linear, core, convolution, norm, gate, Linear, each as torch has it."""
    q, k, v, g = layer.qkvg(x).chunk(4, dim=-1)
    heads = [part.unflatten(-1, (2, 8)).transpose(1, 2) for part in (q, k, v)]
    mixed = (
        explicit_pairs.nala(None, *heads, angles=angles_by_hand(grid, 8)).transpose(1, 2).flatten(2)
    )
    image = v.transpose(1, 2).unflatten(2, grid)
    local = functional.conv2d(image, layer.lepe.weight, layer.lepe.bias, padding=2, groups=16)
    normed = functional.layer_norm(
        mixed + local.flatten(2).transpose(1, 2), (16,), layer.norm.weight, layer.norm.bias, 1e-5
    )
    return layer.proj(normed * functional.silu(g))


@pytest.fixture
def layer():
    geometry = Geometry(num_heads=2, head_dim=8, seq_len=12, grid=(3, 4))
    layer = build_layer("nala_layer", geometry).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return layer


def test_the_layer_is_that_of_the_release(layer):
    x = torch.randn(1, 12, 16, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), layer_by_hand(layer, x, (3, 4)), rtol=1e-5, atol=1e-5)


def test_flops_are_the_same_with_and_without_rope(qkv):
    shape = call_of(12, 8)
    for rope in (False, True):
        core = build(rope=rope)
        with FlopCounterMode(display=False) as counter:
            core(*qkv(1, 2, 12, 8))
        assert core.flops(shape) == counter.get_total_flops()
