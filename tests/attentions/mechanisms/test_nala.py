import pytest
import torch

from attentions import Geometry, build_attention


def build(grid=(3, 4), head_dim=8, value_dim=0, **settings):
    sizes = {"num_heads": 2, "head_dim": head_dim, "value_dim": value_dim}
    geometry = Geometry(**sizes, seq_len=grid[0] * grid[1], grid=grid)
    return build_attention("nala", geometry, **settings)


@pytest.mark.parametrize(("grid", "head_dim"), [((4, 3), 4), ((2, 5), 12)])
def test_rope_gives_what_the_slow_form_gives(grid, head_dim, qkv):
    tensors = qkv(1, 2, grid[0] * grid[1], head_dim)
    core = build(grid, head_dim, rope=True)
    torch.testing.assert_close(core(*tensors), core.reference(*tensors))
    assert not torch.allclose(core(*tensors), build(grid, head_dim)(*tensors))


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
