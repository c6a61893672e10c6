"""A linear recurrence as data: how a token changes a state of keys and values.

    S'  = diag(exp(g_t)) S_{t-1}
    S_t = S' + k_t w_t^T - c_t (X^T e_t)^T        X = S', or S_{t-1} if it erases first

Diagonal plus rank one. Decays without an erasure are those of RetNet, Mamba-2 and GLA; with
e = beta k and c = k it is the delta rule, gated or not, and with keys of its own for what is erased
Comba and RWKV-7.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from .channel_decay import channel_decayed_attention
from .channel_delta import channel_delta_rule, channel_removal_rule
from .decay import decayed_attention
from .delta_rule import delta_rule


class Transition(NamedTuple):
    """Change of the state by one token, or by each of N; an axis of 1 for what never changes.

    Attributes:
        key: k, (B, H, N, D).
        write: w, (B, H, N, E).
        log_decay: g <= 0, (B, H, N, 1) for one per head or (B, H, N, D) for one per key channel;
            None if nothing decays. B may be 1.
        erase: e, (B, H, N, D), under which the state is read; None if nothing is erased.
        erased: c, (B, H, N, D), from which the result is taken away; the key if None.
        erases_first: whether the state is read before it decays.
    """

    key: Tensor
    write: Tensor
    log_decay: Tensor | None = None
    erase: Tensor | None = None
    erased: Tensor | None = None
    erases_first: bool = False

    def applied_to(self, before: Tensor) -> Tensor:
        """The state after one token, (B, H, D, E), from the one before it."""
        state = before if self.log_decay is None else self.log_decay.exp().mT * before
        new = self.write
        if self.erase is not None:
            found = self.erase @ (before if self.erases_first else state)
            if self.erased is None:
                new = new - found
            else:
                state = torch.addcmul(state, self.erased.mT, found, value=-1)
        return torch.addcmul(state, self.key.mT, new)

    def num_products(self) -> int:
        """Products of D x E that a token needs: its write, and what it reads and erases."""
        return 1 + (self.erase is not None) + (self.erased is not None)


Transitions = Transition | Sequence[Transition]
"""One change of the state per token, or several in turn."""


def parts_of(transitions: Transitions) -> Sequence[Transition]:
    """The changes of a token in their order."""
    return (transitions,) if isinstance(transitions, Transition) else transitions


def run_transitions(q: Tensor, transitions: Transitions, state: Tensor) -> tuple[Tensor, Tensor]:
    """Read the state after each token, chunk by chunk.

    Args:
        q: queries, (B, H, N, D).
        transitions: of the N tokens.
        state: before the first token, (B, H, D, E).

    Returns:
        The output, (B, H, N, E), and the state after the last token.
    """
    parts = parts_of(transitions)
    if len(parts) == 1:
        return _run(q, parts[0], state)
    # A token of R changes is R tokens, of which the last one reads.
    sizes = q.shape[:3]
    q = functional.pad(q.unsqueeze(3), (0, 0, len(parts) - 1, 0)).flatten(2, 3)
    out, state = _run(q, _in_turn(parts, sizes), state)
    return out[:, :, len(parts) - 1 :: len(parts)], state


def _run(q: Tensor, given: Transition, state: Tensor) -> tuple[Tensor, Tensor]:
    key, write, g, erase, erased, first = given
    g = key.new_zeros(1, key.shape[1], 1, 1) if g is None else g
    if g.shape[-1] == 1 and erased is None:
        rate = g.squeeze(-1)
        if erase is None:
            return decayed_attention(q, key, write, rate, state)
        return delta_rule(q, key, erase, write, rate, state, erases_first=first)
    g = g.to(q.dtype).expand(-1, -1, *key.shape[2:])
    if erase is None:
        return channel_decayed_attention(q, key, write, g, state)
    if erased is None and not first:
        return channel_delta_rule(q, key, erase, write, g, state)
    erase = erase if first else g.exp() * erase  # S'^T e is S^T (exp(g) e)
    erased = key if erased is None else erased
    return channel_removal_rule(q, key, write, erase, erased, g, state)


def _in_turn(parts: Sequence[Transition], sizes: Sequence[int]) -> Transition:
    """All changes of all tokens one behind the other, (B, H, N R, ...)."""

    def joined(given: Sequence[Tensor | None], absent: Sequence[Tensor]) -> Any:
        if all(x is None for x in given):
            return None
        some = [y if x is None else x for x, y in zip(given, absent, strict=True)]
        width = max(x.shape[-1] for x in some)
        return torch.stack([x.expand(*sizes, width) for x in some], dim=3).flatten(2, 3)

    keys, writes, decays, erases, erased, firsts = zip(*parts, strict=True)
    if len(set(firsts)) > 1:
        raise ValueError(
            "one turn of a token erases from the state before its decay, another after it; one "
            "erases_first is needed for all of them."
        )
    nothing = [torch.zeros_like(key[..., :1]) for key in keys]
    return Transition(
        key=joined(keys, keys),
        write=joined(writes, keys),
        log_decay=joined(decays, nothing),
        erase=joined(erases, nothing),
        erased=joined(erased, keys),
        erases_first=firsts[0],
    )


def run_token_by_token(q: Tensor, transitions: Transitions, state: Tensor) -> Tensor:
    """`run_transitions` as the formula has it, for tests: outputs, (B, H, N, E)."""
    outputs = []
    for t in range(q.shape[2]):
        for part in parts_of(transitions):
            now = (None if x is None else x[:, :, min(t, x.shape[2] - 1)] for x in part[:5])
            k, w, g, e, c = (None if x is None else x.to(q.dtype) for x in now)
            before, state = state, state if g is None else g.exp().unsqueeze(-1) * state
            if e is not None:
                read = before if part.erases_first else state
                found = torch.einsum("bhde,bhd->bhe", read, e)
                state = state - torch.einsum("bhd,bhe->bhde", k if c is None else c, found)
            state = state + torch.einsum("bhd,bhe->bhde", k, w)
        outputs.append(torch.einsum("bhde,bhd->bhe", state, q[:, :, t]))
    return torch.stack(outputs, dim=2)
