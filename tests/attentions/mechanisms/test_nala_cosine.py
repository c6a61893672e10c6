import pytest
import torch

from attentions import Geometry, build_attention


def build(name="nala_cosine", **settings):
    return build_attention(name, Geometry(num_heads=2, head_dim=8, seq_len=12), **settings)


def test_as_alpha_grows_it_becomes_nala_without_rope(qkv):
    q, k, v = qkv(2, 2, 12, 8)
    limit = build("nala")(q, k, v)
    errors = [(build(alpha=a)(q, k, v) - limit).abs().max() for a in (1.0, 20.0, 1e3, 1e7)]
    assert errors[0] > errors[1] > errors[2]
    assert errors[3] < 1e-9


def test_with_alpha_1_unlike_signs_hardly_matter_at_head_dim_64():
    """|d| is about 1/8, so even opposite signs are about 0.2 apart."""
    geometry = Geometry(num_heads=1, head_dim=64, seq_len=2)
    q = torch.ones(1, 1, 1, 64)
    k = torch.stack((torch.ones(64), -torch.ones(64))).view(1, 1, 2, 64)
    v = torch.tensor([0.0, 1.0]).view(1, 1, 2, 1).expand(1, 1, 2, 64)
    share = {
        alpha: build_attention("nala_cosine", geometry, alpha=alpha)(q, k, v)[0, 0, 0, 0].item()
        for alpha in (1.0, 20.0)
    }
    assert 0.49 < share[1.0] < 0.5
    assert share[20.0] < 0.05


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
