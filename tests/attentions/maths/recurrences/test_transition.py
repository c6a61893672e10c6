"""Every kind of transition: in chunks, token by token, and one state after the other."""

import itertools

import pytest
import torch
from torch.nn import functional

from attentions.maths.recurrences.chunks import CHUNK
from attentions.maths.recurrences.transition import Transition, run_token_by_token, run_transitions

B, H, D, E = 2, 3, 5, 4
KINDS = [
    (decay, erase, erased, first)
    for decay, erase, erased, first in itertools.product(
        ("none", "head", "channel", "constant"), (False, True), (False, True), (False, True)
    )
    if erase or not (erased or first)
]


def drawn(decay, erase, erased, first, length):
    """Decays and erasures under which a state stays bounded."""

    def random(*sizes):
        return torch.randn(*sizes, dtype=torch.float64)

    def unit(tokens):
        return functional.normalize(random(B, H, tokens, D), dim=-1)

    sizes = {"head": (B, H, length, 1), "channel": (1, H, length, D), "constant": (1, H, 1, 1)}
    log_decay = None if decay == "none" else -random(*sizes[decay]).abs()
    key = unit(length)
    share = torch.rand(B, H, length, 1, dtype=torch.float64)
    erasing = unit(length) if erased else key
    return Transition(
        key=key,
        write=random(B, H, length, E),
        log_decay=log_decay,
        erase=share * erasing if erase else None,
        erased=erasing if erased else None,
        erases_first=first,
    )


def given(kind, length, turns=1):
    q = torch.randn(B, H, length, D, dtype=torch.float64)
    state = torch.randn(B, H, D, E, dtype=torch.float64)
    return q, [drawn(*kind, length) for _ in range(turns)], state


@pytest.mark.parametrize("turns", [1, 3])
@pytest.mark.parametrize("length", [1, 7, CHUNK + 1])
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_chunks_give_what_tokens_give_one_by_one(kind, length, turns):
    q, parts, state = given(kind, length, turns)
    out, after = run_transitions(q, parts if turns > 1 else parts[0], state)
    torch.testing.assert_close(out, run_token_by_token(q, parts, state))
    for t in range(length):
        for part in parts:
            now = (None if x is None else x[:, :, min(t, x.shape[2] - 1), None] for x in part[:5])
            state = Transition(*now, part.erases_first).applied_to(state)
    torch.testing.assert_close(after, state)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_gradients_reach_every_part(kind):
    q, (part,), state = given(kind, 9)
    tensors = [x.requires_grad_() for x in (q, *part[:5], state) if x is not None]

    def run(q, *rest):
        *some, state = rest
        some = iter(some)
        whole = Transition(*(None if x is None else next(some) for x in part[:5]), part[5])
        return run_transitions(q, whole, state)

    assert torch.autograd.gradcheck(run, tensors, fast_mode=True)


def test_turns_of_a_token_may_differ_in_what_they_decay_and_erase():
    q, _, state = given(KINDS[0], CHUNK + 3)
    kinds = [("channel", True, False, False), ("none", False, False, False)]
    kinds += [("head", True, True, False)]
    parts = [drawn(*kind, CHUNK + 3) for kind in kinds]
    out, _ = run_transitions(q, parts, state)
    torch.testing.assert_close(out, run_token_by_token(q, parts, state))


def test_turns_that_erase_at_different_times_are_refused():
    q, _, state = given(KINDS[0], 3)
    parts = [drawn("head", True, False, first, 3) for first in (False, True)]
    with pytest.raises(ValueError, match="erases_first"):
        run_transitions(q, parts, state)
