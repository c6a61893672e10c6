import math

import pytest
import torch

from attentions import Geometry, build_attention


def build(causal=False, seq_len=7, **settings):
    geometry = Geometry(num_heads=2, head_dim=4, seq_len=seq_len, value_dim=3, causal=causal)
    return build_attention("cosformer", geometry, **settings)


def by_hand(q, k, v, m, causal=False, eps=1e-6):
    """Pair by pair: similarity of what is positive, times the cosine of the distance."""
    out = torch.zeros(*q.shape[:3], v.shape[-1], dtype=q.dtype)
    for b, h, i in torch.cartesian_prod(*(torch.arange(n) for n in q.shape[:3])).tolist():
        total = 0.0
        for j in range(i + 1 if causal else k.shape[2]):
            similarity = float(q[b, h, i].clamp(min=0) @ k[b, h, j].clamp(min=0))
            weight = similarity * math.cos(math.pi / 2 * (i - j) / m)
            out[b, h, i] += weight * v[b, h, j]
            total += weight
        out[b, h, i] /= max(total, eps)
    return out


@pytest.mark.parametrize("causal", [False, True])
def test_it_is_the_formula_of_the_paper(causal, qkv):
    q, k, v = qkv(2, 2, 7, 4, value_dim=3)
    core, expected = build(causal), by_hand(q, k, v, 7, causal)
    torch.testing.assert_close(core(q, k, v), expected)
    torch.testing.assert_close(core.reference(q, k, v), expected)


@pytest.mark.parametrize("key_len", [3, 11])
def test_weights_fade_over_the_longer_of_queries_and_keys(key_len, qkv):
    q, k, v = qkv(1, 2, 7, 4, key_len=key_len, value_dim=3)
    torch.testing.assert_close(build()(q, k, v), by_hand(q, k, v, max(7, key_len)))


@pytest.mark.parametrize("causal", [False, True])
def test_a_horizon_of_its_own_takes_their_place(causal, qkv):
    q, k, v = qkv(1, 2, 7, 4, value_dim=3)
    expected = by_hand(q, k, v, 20, causal)
    core = build(causal, horizon=20)
    torch.testing.assert_close(core(q, k, v), expected)
    torch.testing.assert_close(core.reference(q, k, v), expected)


@pytest.mark.parametrize("settings", [{}, {"horizon": 7}])
def test_a_step_past_the_horizon_is_refused(settings, qkv):
    core, tensors = build(causal=True, **settings), qkv(1, 2, 8, 4, value_dim=3)
    state = core.init_state(1, dtype=torch.float64, device=torch.device("cpu"))
    _, state = core.step(*(x[:, :, :7] for x in tensors), state)
    with pytest.raises(ValueError, match="position 8 was reached; with a horizon of 7"):
        core.step(*(x[:, :, 7:] for x in tensors), state)


def test_longer_calls_than_the_horizon_are_refused(qkv):
    with pytest.raises(ValueError, match="position 9 was reached"):
        build(horizon=8)(*qkv(1, 2, 7, 4, key_len=9, value_dim=3))


def test_a_sum_of_weights_below_eps_is_taken_for_eps(qkv):
    q, k, v = qkv(1, 2, 7, 4, value_dim=3)
    torch.testing.assert_close(build(eps=50.0)(q, k, v), by_hand(q, k, v, 7, eps=50.0))
    assert build()(-q.abs(), k, v).eq(0).all()
