from functools import partial

import pytest
import torch

from tests.attentions.calls import built

build = partial(built, "linear_unnormalised", seq_len=6, value_dim=3)


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
