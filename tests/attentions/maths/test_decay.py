import pytest
import torch

from attentions.base import CallShape
from attentions.maths.decay import (
    CHUNK,
    chunk_decays,
    chunked_flops,
    decayed_attention,
    padded_len,
    states_before,
)


def token_by_token(q, k, v, log_decay, state):
    """The recurrence as it is written."""
    outputs = []
    for i in range(q.shape[2]):
        state = log_decay[:, :, i, None, None].exp() * state
        state = state + k[:, :, i, :, None] * v[:, :, i, None, :]
        outputs.append(torch.einsum("bhde,bhd->bhe", state, q[:, :, i]))
    return torch.stack(outputs, dim=2), state


def made(qkv, length):
    q, k, v = qkv(2, 3, length, 5, value_dim=4)
    log_decay = -2 * torch.rand(2, 3, length, dtype=torch.float64)
    return q, k, v, log_decay, torch.randn(2, 3, 5, 4, dtype=torch.float64)


@pytest.mark.parametrize("length", [1, 2, 3, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 5 * CHUNK + 7])
def test_chunks_change_nothing(length, qkv):
    given = made(qkv, length)
    out, state = decayed_attention(*given)
    expected, end = token_by_token(*given)
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(state, end)


@pytest.mark.parametrize("length", [1, 3, CHUNK, 3 * CHUNK + 5])
def test_a_decay_that_never_changes_may_be_given_once(length, qkv):
    q, k, v, _, state = made(qkv, length)
    once = torch.tensor([-0.5, -0.01, 0.0], dtype=torch.float64)[None, :, None]
    got = decayed_attention(q, k, v, once, state)
    expected = decayed_attention(q, k, v, once.expand(2, -1, length), state)
    torch.testing.assert_close(got, expected)


def test_gradients_reach_every_input(qkv):
    given = [x[:1, :1].clone().requires_grad_() for x in made(qkv, CHUNK + 3)]
    assert torch.autograd.gradcheck(decayed_attention, given, fast_mode=True)


@pytest.mark.parametrize("length", [20, CHUNK + 20])
@pytest.mark.parametrize("value", [-1e4, -50.0, 0.0])
def test_any_decay_is_finite_and_so_are_its_gradients(value, length, qkv):
    q, k, v, log_decay, state = (x.float().requires_grad_() for x in made(qkv, length))
    decays = log_decay.masked_fill(torch.rand_like(log_decay) < 0.3, value)
    out, after = decayed_attention(q, k, v, decays, state)
    gradients = torch.autograd.grad((out.sum(), after.sum()), (q, k, v, log_decay, state))
    assert all(x.isfinite().all() for x in (out, after, *gradients))
    expected, _ = token_by_token(*(x.detach().double() for x in (q, k, v, decays, state)))
    torch.testing.assert_close(out.double(), expected, rtol=1e-4, atol=1e-5)


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


def test_work_grows_with_length_and_not_with_its_square():
    def shape(length):
        return CallShape(
            batch_size=1,
            num_heads=2,
            query_len=length,
            key_len=length,
            head_dim=8,
            value_dim=8,
            causal=True,
        )

    assert chunked_flops(shape(64 * CHUNK)) == 64 * chunked_flops(shape(CHUNK))
    assert padded_len(CHUNK + 1, CHUNK) == 2 * CHUNK
