import pytest
import torch

from attentions import Geometry, build_attention


def build(causal=False, head_dim=4, **settings):
    geometry = Geometry(num_heads=2, head_dim=head_dim, seq_len=6, value_dim=3, causal=causal)
    return build_attention("dpfp", geometry, **settings)


def feature(x, nu):
    """Products of each rectified channel with its nu predecessors, around the corner."""
    r = [max(x_c, 0.0) for x_c in x.tolist()] + [max(-x_c, 0.0) for x_c in x.tolist()]
    products = [r[i] * r[(i - s) % len(r)] for s in range(1, nu + 1) for i in range(len(r))]
    return torch.tensor(products, dtype=torch.float64)


def by_hand(q, k, v, nu, causal=False, eps=1e-6):
    out = torch.zeros(*q.shape[:3], v.shape[-1], dtype=q.dtype)
    for b, h, i in torch.cartesian_prod(*(torch.arange(n) for n in q.shape[:3])).tolist():
        total = eps
        for j in range(i + 1 if causal else k.shape[2]):
            weight = float(feature(q[b, h, i], nu) @ feature(k[b, h, j], nu))
            out[b, h, i] += weight * v[b, h, j]
            total += weight
        out[b, h, i] /= total
    return out


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("nu", [1, 3, 7])
def test_it_is_the_formula_of_the_paper(causal, nu, qkv):
    q, k, v = qkv(1, 2, 6, 4, value_dim=3)
    core, expected = build(causal, nu=nu), by_hand(q, k, v, nu, causal)
    torch.testing.assert_close(core(q, k, v), expected)
    torch.testing.assert_close(core.reference(q, k, v), expected)


def test_features_of_a_negative_vector_are_positive():
    x = -torch.rand(1, 1, 5, 4) - 0.1
    phi = build(nu=2).query_features(x)
    assert phi.ge(0).all() and phi.gt(0).any()


def test_one_channel_has_nothing_to_be_multiplied_with():
    core = build(head_dim=1)
    assert (
        core(torch.randn(1, 2, 6, 1), torch.randn(1, 2, 6, 1), torch.randn(1, 2, 6, 3)).eq(0).all()
    )


def test_eps_is_added_to_the_sum_of_weights(qkv):
    q, k, v = qkv(1, 2, 6, 4, value_dim=3)
    torch.testing.assert_close(build(eps=2.0)(q, k, v), by_hand(q, k, v, 1, eps=2.0))
