import pytest
import torch
from torch.nn import functional

from attentions.maths.chunks import CHUNK
from attentions.maths.delta_rule import (
    delta_rule,
    reference_delta_rule,
    unit_length,
    unit_triangular_inverse,
)


def token_by_token(q, k, v, beta, log_decay, state):
    """The recurrence as it is written."""
    outputs = []
    for i in range(q.shape[2]):
        state = log_decay[:, :, i, None, None].exp() * state
        stored = torch.einsum("bhde,bhd->bhe", state, k[:, :, i])
        new = beta[:, :, i, None] * (v[:, :, i] - stored)
        state = state + k[:, :, i, :, None] * new[:, :, None, :]
        outputs.append(torch.einsum("bhde,bhd->bhe", state, q[:, :, i]))
    return torch.stack(outputs, dim=2), state


def made(qkv, length):
    q, k, v = qkv(2, 3, length, 5, value_dim=4)
    beta = torch.rand(2, 3, length, dtype=torch.float64)
    log_decay = -torch.rand(2, 3, length, dtype=torch.float64)
    state = torch.randn(2, 3, 5, 4, dtype=torch.float64)
    return q, functional.normalize(k, dim=-1), v, beta, log_decay, state


@pytest.mark.parametrize("length", [1, 2, 3, 5, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 7])
def test_chunks_change_nothing(length, qkv):
    given = made(qkv, length)
    out, state = delta_rule(*given)
    expected, end = token_by_token(*given)
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(state, end)


def test_one_system_for_all_tokens_gives_the_same(qkv):
    *given, state = made(qkv, CHUNK + 9)
    expected, _ = token_by_token(*given, torch.zeros_like(state))
    torch.testing.assert_close(reference_delta_rule(*given), expected)


def test_gates_that_never_change_may_be_given_once(qkv):
    q, k, v, _, _, state = made(qkv, CHUNK + 9)
    beta = torch.tensor([0.2, 0.5, 1.0], dtype=torch.float64)[None, :, None]
    nothing = torch.zeros(1, 1, 1, dtype=torch.float64)
    got = delta_rule(q, k, v, beta, nothing, state)
    ones = q.new_ones(2, 3, q.shape[2])
    torch.testing.assert_close(got, token_by_token(q, k, v, beta * ones, 0 * ones, state))


def test_gradients_reach_every_input(qkv):
    given = [x[:1, :1].clone().requires_grad_() for x in made(qkv, 19)]
    assert torch.autograd.gradcheck(delta_rule, given, fast_mode=True)


@pytest.mark.parametrize("beta", [0.0, 1.0])
@pytest.mark.parametrize("value", [-1e4, -50.0, 0.0])
@pytest.mark.parametrize("keys", ["random", "alike", "zero"])
def test_any_gate_is_finite_and_so_are_its_gradients(beta, value, keys, qkv):
    q, k, v, betas, log_decay, state = (x.float() for x in made(qkv, CHUNK + 20))
    k = {"random": k, "alike": k[:, :, :1].expand_as(k), "zero": 0 * k}[keys]
    betas = betas.masked_fill(torch.rand_like(betas) < 0.5, beta)
    log_decay = log_decay.masked_fill(torch.rand_like(log_decay) < 0.3, value)
    given = [x.clone().requires_grad_() for x in (q, k, v, betas, log_decay, state)]
    out, after = delta_rule(*given)
    gradients = torch.autograd.grad((out.sum(), after.sum()), given)
    assert all(x.isfinite().all() for x in (out, after, *gradients))
    expected, _ = token_by_token(*(x.detach().double() for x in given))
    torch.testing.assert_close(out.double(), expected, rtol=1e-4, atol=1e-5)


def test_directions_of_short_vectors_have_bounded_gradients():
    x = torch.tensor([[0.0, 0.0], [1e-30, 0.0], [3e-3, 4e-3], [30.0, 40.0]], requires_grad=True)
    unit = unit_length(x)
    (gradient,) = torch.autograd.grad(unit.sum(), x)
    assert gradient.isfinite().all()
    assert gradient.abs().max() <= 1001
    assert unit.norm(dim=-1).tolist() == pytest.approx([0, 0, 0.98, 1], abs=1e-3)


def below_diagonal(size):
    return torch.randn(2, 3, size, size, dtype=torch.float64).tril(-1) / size**0.5


@pytest.mark.parametrize("size", [1, 2, 4, 8, 64])
def test_it_is_the_inverse_of_one_plus_what_lies_below(size):
    below = below_diagonal(size)
    identity = torch.eye(size, dtype=torch.float64).expand_as(below)
    inverse = unit_triangular_inverse(below)
    torch.testing.assert_close((identity + below) @ inverse, identity)
    assert inverse.triu(1).eq(0).all()
    assert inverse.diagonal(dim1=-2, dim2=-1).eq(1).all()


def test_its_gradients_are_right_twice():
    below = below_diagonal(8)[:1, :1].requires_grad_()
    assert torch.autograd.gradcheck(unit_triangular_inverse, below)
    assert torch.autograd.gradgradcheck(unit_triangular_inverse, below)


def test_a_matrix_as_large_as_its_inverse_may_be_loses_no_digits():
    """All ones below: the same key again and again, each value replacing the one before."""
    below = torch.ones(64, 64).tril(-1)
    expected = torch.eye(64) - torch.eye(64).roll(-1, dims=1).tril(-1)
    torch.testing.assert_close(unit_triangular_inverse(below), expected)
