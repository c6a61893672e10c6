import pytest
import torch

from attentions.maths.running_max import RunningMaxState, running_max_attention

CPU = torch.device("cpu")


def made_up(length, spread):
    """Query features, key features relative to their own largest, its logarithm, and values."""
    phi_q = torch.rand(2, 3, length, 5, dtype=torch.float64) + 0.1
    u = torch.rand(2, 3, length, 5, dtype=torch.float64)
    s = spread * torch.randn(2, 3, length, dtype=torch.float64)
    v = torch.randn(2, 3, length, 4, dtype=torch.float64)
    return phi_q, u, s, v


def run(phi_q, u, s, v, kept=None, state=None, eps=0.01):
    kept = torch.ones(2, phi_q.shape[2], dtype=torch.bool) if kept is None else kept
    state = state or RunningMaxState.empty((2, 3, 5, 4), dtype=phi_q.dtype, device=CPU)
    return running_max_attention(phi_q, u, s, v, kept, eps=eps, state=state)


@pytest.mark.parametrize("spread", [0.0, 1.0, 300.0])
def test_each_query_divides_by_the_largest_key_that_it_sees(spread):
    phi_q, u, s, v = made_up(200, spread)
    out, _ = run(phi_q, u, s, v)
    for i in (0, 1, 57, 127, 128, 199):
        seen = slice(0, i + 1)
        largest = s[:, :, seen].amax(-1, keepdim=True)
        features = u[:, :, seen] * (s[:, :, seen] - largest).exp()[..., None] + 0.01
        weights = (phi_q[:, :, i : i + 1] * features).sum(-1)
        mean = (weights[..., None] * v[:, :, seen]).sum(2) / weights.sum(2)[..., None]
        torch.testing.assert_close(out[:, :, i], mean)


def test_a_state_continues_where_it_was_left():
    tensors = made_up(200, 30.0)
    whole, end = run(*tensors)
    _, state = run(*(x[:, :, :77] for x in tensors))
    rest, state = run(*(x[:, :, 77:] for x in tensors), state=state)
    torch.testing.assert_close(rest, whole[:, :, 77:])
    torch.testing.assert_close(state, end)
    assert state.num_keys.tolist() == [[200.0], [200.0]]


def test_a_rise_of_the_maximum_beyond_float32_forgets_the_past_and_stays_finite():
    phi_q, u, s, v = (x.float() for x in made_up(200, 1.0))
    s[:, :, 150:] += 1e6
    out, state = run(phi_q, u, s, v)
    assert out.isfinite().all()
    assert all(x.isfinite().all() for x in state)
