import math

import pytest
import torch

from attentions import Geometry, build_attention


def build(name="nala_cosine", **settings):
    return build_attention(name, Geometry(num_heads=2, head_dim=8, seq_len=12), **settings)


def attention_by_hand(q, k, v, *, alpha=20.0, lam=3.0, tau=0.5, key_power=3.0, eps=1e-6):
    """Eq. 16: each channel of each pair weighs |d(q)|^p |k|^key_power cos(theta(q) - theta(k))."""
    out = torch.zeros_like(q)
    for b, h, i in torch.cartesian_prod(*(torch.arange(n) for n in q.shape[:3])).tolist():
        d_q = q[b, h, i] / q[b, h, i].norm()
        p = lam * (tau + math.tanh(q[b, h, i].norm()))
        weights = torch.zeros(k.shape[2], dtype=q.dtype)
        for j in range(k.shape[2]):
            d_k = k[b, h, j] / k[b, h, j].norm()
            angle = math.pi / 4 * ((alpha * d_q).tanh() - (alpha * d_k).tanh())
            weights[j] = (d_q.abs() ** p * k[b, h, j].abs() ** key_power * angle.cos()).sum()
        out[b, h, i] = (weights / len(weights)) @ v[b, h] / (weights.mean() + eps)
    return out


@pytest.mark.parametrize("alpha", [1.0, 20.0])
def test_it_is_the_formula_of_the_paper(alpha, qkv):
    q, k, v = qkv(1, 2, 12, 8)
    expected = attention_by_hand(q, k, v, alpha=alpha)
    core = build(alpha=alpha)
    torch.testing.assert_close(core(q, k, v), expected)
    torch.testing.assert_close(core.reference(q, k, v), expected)


def test_every_hyperparameter_is_where_the_formula_has_it(qkv):
    q, k, v = qkv(1, 2, 12, 8)
    settings = {"alpha": 3.0, "lam": 2.0, "tau": 0.75, "key_power": 2.0, "eps": 0.1}
    torch.testing.assert_close(build(**settings)(q, k, v), attention_by_hand(q, k, v, **settings))


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
