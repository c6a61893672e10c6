"""Properties of every rule by which a state of keys and values changes from token to token."""

import pytest
import torch
from torch.nn import functional

from attentions.maths.recurrences.channel_decay import channel_decayed_attention
from attentions.maths.recurrences.chunks import CHUNK
from attentions.maths.recurrences.decay import decayed_attention
from attentions.maths.recurrences.delta_rule import delta_rule
from tests.attentions.maths.recurrences.token_by_token import token_by_token


def with_betas(q, k, v, beta, log_decay, state):
    """The delta rule: a share beta of the value under a key gives way."""
    beta = beta.unsqueeze(-1)
    return delta_rule(q, k, beta * k, beta * v, log_decay, state)


RULES = (decayed_attention, channel_decayed_attention, with_betas)
LENGTHS = (1, 5, CHUNK, CHUNK + 1, 5 * CHUNK + 7)
every_rule = pytest.mark.parametrize("rule", RULES)


def made(rule, qkv, length):
    q, k, v = qkv(2, 3, length, 5, value_dim=4)
    log_decay = torch.rand(2, 3, length, 5, dtype=torch.float64) * -2
    state = torch.randn(2, 3, 5, 4, dtype=torch.float64)
    if rule is channel_decayed_attention:
        return q, k, v, log_decay, state
    if rule is decayed_attention:
        return q, k, v, log_decay[..., 0], state
    beta = torch.rand(2, 3, length, dtype=torch.float64)
    return q, functional.normalize(k, dim=-1), v, beta, log_decay[..., 0], state


@every_rule
@pytest.mark.parametrize("length", LENGTHS)
def test_chunks_change_nothing(rule, length, qkv):
    given = made(rule, qkv, length)
    torch.testing.assert_close(rule(*given), token_by_token(*given))


@every_rule
def test_gradients_reach_every_input(rule, qkv):
    given = [x[:1, :1].clone().requires_grad_() for x in made(rule, qkv, 19)]
    assert torch.autograd.gradcheck(rule, given, fast_mode=True)


@every_rule
@pytest.mark.parametrize(
    ("value", "beta", "keys"),
    [(-1e4, 1.0, "random"), (-50.0, 0.0, "alike"), (0.0, 1.0, "alike"), (-1e4, 0.0, "zero")],
)
def test_any_gate_is_finite_and_so_are_its_gradients(rule, value, beta, keys, qkv):
    q, k, v, *betas, log_decay, state = (x.float() for x in made(rule, qkv, CHUNK + 20))
    k = {"random": k, "alike": k[:, :, :1].expand_as(k), "zero": 0 * k}[keys]
    betas = [b.masked_fill(torch.rand_like(b) < 0.5, beta) for b in betas]
    log_decay = log_decay.masked_fill(torch.rand_like(log_decay) < 0.3, value)
    given = [x.clone().requires_grad_() for x in (q, k, v, *betas, log_decay, state)]
    out, after = rule(*given)
    gradients = torch.autograd.grad((out.sum(), after.sum()), given)
    assert all(x.isfinite().all() for x in (out, after, *gradients))
    expected, _ = token_by_token(*(x.detach().double() for x in given))
    torch.testing.assert_close(out.double(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("length", [1, CHUNK, 3 * CHUNK + 5])
@pytest.mark.parametrize("rule", [decayed_attention, with_betas])
def test_gates_that_never_change_may_be_given_once(rule, length, qkv):
    q, k, v, *betas, _, state = made(rule, qkv, length)
    once = torch.tensor([-0.5, -0.01, 0.0], dtype=torch.float64)[None, :, None]
    gates = [once.exp()] * len(betas) + [once]
    expected = rule(q, k, v, *(gate.expand(2, -1, length) for gate in gates), state)
    torch.testing.assert_close(rule(q, k, v, *gates, state), expected)
