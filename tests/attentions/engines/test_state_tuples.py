"""`StateCore`: states of several tensors, and tokens that are hidden from them."""

from dataclasses import replace
from typing import NamedTuple

import pytest
import torch

from attentions import Capabilities, StateCore, build_attention
from tests.attentions.engines.test_state import CAN, CPU, Fading, enter, geometry, inputs

UNGATED = replace(CAN, gates={})


class Two(NamedTuple):
    context: torch.Tensor
    key_sum: torch.Tensor


def test_a_state_may_be_several_tensors_with_a_read_of_its_own():
    class Mean(StateCore):
        def init_state(self, batch_size, *, dtype, device):
            context = super().init_state(batch_size, dtype=dtype, device=device)
            return Two(context, context.new_zeros(*context.shape[:3], 1))

        def update(self, state, k, v):
            return Two(state.context + k.mT @ v, state.key_sum + k.mT)

        def read(self, q, state):
            return q @ state.context / (q @ state.key_sum)

    can = Capabilities(bidirectional=False, causal=True, recurrent=True, position_free=False)
    core, (q, k, v) = enter(Mean, can)(geometry()), inputs()
    q, k = q.exp(), k.exp()
    weights = (q @ k.mT).tril()
    expected = weights @ v / weights.sum(-1, keepdim=True)
    torch.testing.assert_close(core(q, k, v), expected)
    state = core.init_state(2, dtype=torch.double, device=CPU)
    _, state = core.step(q[:, :, :69], k[:, :, :69], v[:, :, :69], state)
    out, state = core.step(q[:, :, 69:], k[:, :, 69:], v[:, :, 69:], state)
    assert isinstance(state, Two)
    torch.testing.assert_close(out, expected[:, :, 69:])


class Last(NamedTuple):
    key: torch.Tensor
    value: torch.Tensor
    count: int


class Previous(StateCore):
    """The last value, weighed by its key; the state is that token, and how many there were."""

    skips_hidden = True

    def __init__(self, geometry):
        super().__init__(geometry)
        self.gain = torch.nn.Parameter(torch.rand(geometry.num_heads))

    def head_weights(self):
        return (self.gain,)

    def init_state(self, batch_size, *, dtype, device):
        context = super().init_state(batch_size, dtype=dtype, device=device)
        return Last(context[..., :1].mT, context[:, :, :1], 0)

    def update(self, state, k, v, gain):
        return Last(k, v, state.count + 1)

    def read(self, q, state, gain):
        return gain * (q @ state.key.mT) * state.value


def test_weights_of_heads_and_numbers_in_a_state_come_along():
    can = Capabilities(bidirectional=False, causal=True, recurrent=True, position_free=False)
    core, (q, k, v) = enter(Previous, can)(geometry()).double(), inputs()
    expected = core.gain[:, None, None] * (q * k).sum(-1, keepdim=True) * v
    torch.testing.assert_close(core(q, k, v), expected)
    state = core.init_state(2, dtype=torch.double, device=CPU)
    out, state = core.step(q[:, :, :30], k[:, :, :30], v[:, :, :30], state)
    torch.testing.assert_close(out, expected[:, :, :30])
    assert state.count == 30
    core(q, k, v).sum().backward()
    assert core.gain.grad.all()


def test_a_hidden_token_leaves_a_state_alone_where_zeros_would_not_do():
    class Tensors(Previous):
        def init_state(self, batch_size, *, dtype, device):
            return super().init_state(batch_size, dtype=dtype, device=device)[:2]

        def update(self, state, k, v, gain):
            return k, v

        def read(self, q, state, gain):
            return gain * (q @ state[0].mT) * state[1]

    can = Capabilities(
        bidirectional=False,
        causal=True,
        recurrent=True,
        masks=frozenset({"padding"}),
        position_free=False,
    )
    core, (q, k, v) = enter(Tensors, can)(geometry()).double(), inputs()
    mask = torch.rand(2, 70) < 0.6
    last = torch.where(mask, torch.arange(70), -1).cummax(1).values
    k, v = (x.masked_fill(~mask[:, None, :, None], 60.0) for x in (k, v))
    at = last.clamp(min=0)[:, None, :, None]
    seen_k, seen_v = (x.gather(2, at.expand(-1, 4, -1, x.shape[-1])) for x in (k, v))
    expected = core.gain[:, None, None] * (q * seen_k).sum(-1, keepdim=True) * seen_v
    expected = expected.where(last[:, None, :, None] >= 0, expected.new_zeros(()))
    torch.testing.assert_close(core(q, k, v, key_mask=mask), expected)


def test_a_token_may_read_before_it_writes():
    class Before(Fading):
        def one_token(self, q, k, v, state, log_decay):
            return q @ state, self.update(state, k, v, log_decay)

    core, theirs = enter(Before)(geometry()), build_attention("simple_gla", geometry(), scale=1.0)
    (q, k, v), gate = inputs(), -torch.rand(2, 4, 70).double()
    later = torch.cat((q[:, :, 1:], q[:, :, :1]), 2)
    expected = theirs(later, k, v, log_decay=gate)[:, :, :-1]
    out = core(q, k, v, log_decay=gate)
    torch.testing.assert_close(out[:, :, 1:], expected)
    assert not out[:, :, 0].any()


@pytest.mark.parametrize("overwrites", [False, True])
def test_a_token_that_is_read_first_may_be_hidden(overwrites):
    class Late(StateCore):
        reads_first = skips_hidden = True

        def one_token(self, q, k, v, state):
            out = q @ state
            state = state.mul_(0.5) if overwrites else state * 0.5
            return out, state + k.mT @ v

    core, (q, k, v) = enter(Late, UNGATED)(geometry()), inputs()
    mask = torch.rand(2, 70) < 0.6
    out = core(q, k, v, key_mask=mask)
    for row, kept in enumerate(mask):
        expected = core(*(x[row : row + 1, :, kept] for x in (q, k, v)))
        torch.testing.assert_close(out[row : row + 1, :, kept], expected)
