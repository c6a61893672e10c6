import math

import pytest
import torch

from attentions import Geometry, build_attention


def build(causal=False, seq_len=9, **settings):
    geometry = Geometry(num_heads=2, head_dim=4, seq_len=seq_len, value_dim=3, causal=causal)
    return build_attention("linear", geometry, **settings)


def feature(x):
    """Eq. 7, one number at a time."""
    return torch.tensor(
        [x_c + 1 if x_c > 0 else math.exp(x_c) for x_c in x.tolist()], dtype=x.dtype
    )


def attention_by_hand(q, k, v, eps, causal):
    """Eq. 4: a weighted mean with phi(q_i) . phi(k_j) as the weight of j."""
    out = torch.zeros(*q.shape[:3], v.shape[-1], dtype=q.dtype)
    for b, h, i in torch.cartesian_prod(*(torch.arange(n) for n in q.shape[:3])).tolist():
        total = eps
        for j in range(i + 1 if causal else k.shape[2]):
            weight = float(feature(q[b, h, i]) @ feature(k[b, h, j]))
            out[b, h, i] += weight * v[b, h, j]
            total += weight
        out[b, h, i] /= total
    return out


@pytest.mark.parametrize("causal", [False, True])
def test_it_is_the_formula_of_the_paper(causal, qkv):
    q, k, v = qkv(2, 2, 9, 4, value_dim=3)
    core = build(causal)
    expected = attention_by_hand(q, k, v, 1e-6, causal)
    torch.testing.assert_close(core(q, k, v), expected)
    torch.testing.assert_close(core.reference(q, k, v), expected)


def test_eps_is_added_to_the_sum_of_weights(qkv):
    q, k, v = qkv(1, 2, 9, 4, value_dim=3)
    torch.testing.assert_close(build(eps=10.0)(q, k, v), attention_by_hand(q, k, v, 10.0, False))


def test_very_negative_inputs_keep_their_relative_size():
    core = build(eps=1e-30)
    q, k = torch.full((1, 2, 9, 4), -20.0), torch.full((1, 2, 9, 4), -20.0)
    v = torch.randn(1, 2, 9, 3)
    torch.testing.assert_close(core(q, k, v), v.mean(dim=2, keepdim=True).expand(-1, -1, 9, -1))


def test_long_sums_do_not_overflow_float16():
    core = build_attention("linear", Geometry(num_heads=1, head_dim=64, seq_len=4096))
    q, k, v = torch.rand(3, 1, 1, 4096, 64).half().unbind()
    assert torch.finfo(torch.float16).max < 4096 * 64
    out = core(q, k, v)
    assert out.isfinite().all()
    assert (out.float() - core(q.double(), k.double(), v.double())).abs().max() < 1e-3


def test_the_state_of_half_inputs_is_float32():
    state = build(causal=True).init_state(3, dtype=torch.bfloat16, device=torch.device("cpu"))
    assert state.context.dtype == state.key_sum.dtype == torch.float32
    assert state.context.shape == (3, 2, 4, 3)
