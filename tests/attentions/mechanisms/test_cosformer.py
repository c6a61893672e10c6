from functools import partial

import pytest
import torch

from tests.attentions.calls import built

build = partial(built, "cosformer", seq_len=7, value_dim=3)


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


def test_weights_that_are_all_zero_give_zeros(qkv):
    q, k, v = qkv(1, 2, 7, 4, value_dim=3)
    assert build()(-q.abs(), k, v).eq(0).all()
