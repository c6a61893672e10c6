from functools import partial

import pytest
import torch

from tests.attentions.calls import built

build = partial(built, "linear_unnormalised", seq_len=6, value_dim=3)


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
