import pytest
import torch

from attentions.maths.channel_decay import channel_decayed_attention
from attentions.maths.chunks import CHUNK, power_of_two_chunk


def token_by_token(q, k, v, log_decay, state):
    """The recurrence as it is written."""
    outputs = []
    for i in range(q.shape[2]):
        state = log_decay[:, :, i, :, None].exp() * state
        state = state + k[:, :, i, :, None] * v[:, :, i, None, :]
        outputs.append(torch.einsum("bhde,bhd->bhe", state, q[:, :, i]))
    return torch.stack(outputs, dim=2), state


def made(qkv, length):
    q, k, v = qkv(2, 3, length, 5, value_dim=4)
    log_decay = -2 * torch.rand(2, 3, length, 5, dtype=torch.float64)
    return q, k, v, log_decay, torch.randn(2, 3, 5, 4, dtype=torch.float64)


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 7])
def test_chunks_change_nothing(length, qkv):
    given = made(qkv, length)
    out, state = channel_decayed_attention(*given)
    expected, end = token_by_token(*given)
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(state, end)


def test_gradients_reach_every_input(qkv):
    given = [x[:1, :1].clone().requires_grad_() for x in made(qkv, 19)]
    assert torch.autograd.gradcheck(channel_decayed_attention, given, fast_mode=True)


@pytest.mark.parametrize("value", [-1e4, -50.0, 0.0])
def test_any_decay_is_finite_and_so_are_its_gradients(value, qkv):
    q, k, v, log_decay, state = (x.float().requires_grad_() for x in made(qkv, CHUNK + 20))
    decays = log_decay.masked_fill(torch.rand_like(log_decay) < 0.3, value)
    out, after = channel_decayed_attention(q, k, v, decays, state)
    gradients = torch.autograd.grad((out.sum(), after.sum()), (q, k, v, log_decay, state))
    assert all(x.isfinite().all() for x in (out, after, *gradients))
    expected, _ = token_by_token(*(x.detach().double() for x in (q, k, v, decays, state)))
    torch.testing.assert_close(out.double(), expected, rtol=1e-4, atol=1e-5)


def test_what_a_token_hardly_forgets_is_not_rounded_token_by_token():
    """exp(-1e-7) is 1 - 1.2e-7 in float32: 2,048 of them would be off by 4e-5."""
    q, k, v = torch.ones(3, 1, 1, 2048, 1)
    steps, state = torch.full((1, 1, 2048, 1), -1e-7), torch.full((1, 1, 1, 1), 1e4)
    out, _ = channel_decayed_attention(q, k, v, steps, state)
    expected, _ = token_by_token(*(x.double() for x in (q, k, v, steps, state)))
    torch.testing.assert_close(out.double(), expected, rtol=4e-6, atol=0)


def test_a_chunk_is_a_power_of_two_and_not_much_longer_than_its_tokens():
    lengths = range(1, CHUNK + 1)
    assert all(n <= power_of_two_chunk(n) < 2 * n for n in lengths)
    assert {power_of_two_chunk(n) for n in lengths} == {1, 2, 4, 8, 16, 32, 64}
    assert power_of_two_chunk(100 * CHUNK) == CHUNK
