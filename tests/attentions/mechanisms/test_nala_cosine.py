import pytest
import torch

from attentions import Geometry, build_attention


def build(name="nala_cosine", **settings):
    return build_attention(name, Geometry(num_heads=2, head_dim=8, seq_len=12), **settings)


@pytest.mark.parametrize("which", ["query", "key", "both"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_a_zero_row_has_no_weight_and_harms_no_gradient(which, dtype, qkv):
    q, k, v = (x.to(dtype) for x in qkv(1, 2, 12, 8))
    if which in ("query", "both"):
        q[:, :, 4] = 0
    if which in ("key", "both"):
        k[:, :, 7] = 0
    q, k, v = (x.requires_grad_() for x in (q, k, v))
    out = build()(q, k, v)
    assert out.isfinite().all()
    gradients = torch.autograd.grad(out.sum(), (q, k, v))
    assert all(g.isfinite().all() for g in gradients)
    if which != "key":
        assert out[:, :, 4].eq(0).all()
    if which != "query":
        assert gradients[2][:, :, 7].eq(0).all()
