import math

import pytest
import torch

from attentions import Geometry, build_attention


def build(causal=False, seq_len=6, **changes):
    sizes = {"num_heads": 2, "head_dim": 4, "value_dim": 3} | changes
    geometry = Geometry(seq_len=seq_len, causal=causal, **sizes)
    return build_attention("linear_unnormalised", geometry)


def recurrence_by_hand(q, k, v):
    """S += k v^T, and then S^T q / sqrt(D), token by token."""
    out = torch.zeros(*q.shape[:3], v.shape[-1], dtype=q.dtype)
    for b, h in torch.cartesian_prod(*(torch.arange(n) for n in q.shape[:2])).tolist():
        s = torch.zeros(q.shape[-1], v.shape[-1], dtype=q.dtype)
        for t in range(q.shape[2]):
            s = s + torch.outer(k[b, h, t], v[b, h, t])
            out[b, h, t] = s.T @ q[b, h, t] / math.sqrt(q.shape[-1])
    return out


@pytest.mark.parametrize("seq_len", [1, 6, 130])
def test_the_causal_form_is_the_recurrence(seq_len, qkv):
    q, k, v = qkv(2, 2, seq_len, 4, value_dim=3)
    core, expected = build(True, seq_len), recurrence_by_hand(q, k, v)
    torch.testing.assert_close(core(q, k, v), expected)
    torch.testing.assert_close(core.reference(q, k, v), expected)


def test_the_state_is_one_matrix_of_each_head_in_float32(qkv):
    core = build(causal=True)
    state = core.init_state(1, dtype=torch.float16, device=torch.device("cpu"))
    assert state.context.shape == (1, 2, 4, 3) and state.context.dtype == torch.float32
    assert state.key_sum is None
    q, k, v = qkv(1, 2, 6, 4, value_dim=3)
    _, state = core.step(q, k, v, state._replace(context=state.context.double()))
    torch.testing.assert_close(state.context, k.mT @ v)


@pytest.mark.parametrize("causal", [False, True])
def test_sums_that_float16_cannot_hold_stop_at_its_largest_number(causal):
    core = build(causal, seq_len=64, num_heads=1, head_dim=64, value_dim=1)
    q, k, v = (torch.full((1, 1, 64, n), 20.0, dtype=torch.float16) for n in (64, 64, 1))
    out = core(q.requires_grad_(), k, v)
    assert out.isfinite().all() and out.max() == 65504
    out.sum().backward()
    assert q.grad.isfinite().all()
    if causal:
        state = core.init_state(1, dtype=torch.float16, device=torch.device("cpu"))
        stepped, state = core.step(q, k, v, state)
        assert torch.equal(stepped, out) and state.context.max() > 20 * 20
