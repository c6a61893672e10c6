import pytest
import torch

from attentions.maths.recurrences.decay import chunk_decays, states_before


def test_what_erases_the_state_costs_later_tokens_no_digits():
    log_decay = torch.full((1, 1, 32), -1e-3)
    log_decay[..., :8] = -1e4
    expected = log_decay[..., 9:].double().sum().exp()
    _, _, between = chunk_decays(log_decay, 32, 32, torch.float32)
    assert abs(between[0, 0, 0, 31, 8].double() / expected - 1) < 1e-7
    # What float32 sums would leave of it:
    total = log_decay.cumsum(dim=-1)[0, 0]
    assert abs((total[31] - total[8]).double().exp() / expected - 1) > 1e-4


@pytest.mark.parametrize("num_chunks", range(1, 10))
def test_states_before_chunks_are_those_of_a_walk(num_chunks):
    decay = torch.rand(2, 3, num_chunks, 5, 1, dtype=torch.float64)
    updates = torch.randn(2, 3, num_chunks, 5, 4, dtype=torch.float64)
    state = torch.randn(2, 3, 5, 4, dtype=torch.float64)
    before, after = states_before(decay, updates, state)
    for i in range(num_chunks):
        torch.testing.assert_close(before[:, :, i], state)
        state = decay[:, :, i] * state + updates[:, :, i]
    torch.testing.assert_close(after, state)
