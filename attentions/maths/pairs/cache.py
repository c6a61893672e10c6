"""Key-value caches for decoding: allocated once for all tokens, filled in place."""

from __future__ import annotations

import itertools
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ...precision import is_autocast
from ..shared_heads import KeepsKeysAndValues, for_every_query_head


class KeyValueCache(NamedTuple):
    """Keys and values of the tokens so far, at the front of tensors that hold all that may come.

    Attributes:
        k: (B, H_kv, seq_len, D).
        v: (B, H_kv, seq_len, E).
        length: tokens that are there; what stands behind them means nothing.
        kept: (B, 1, seq_len), False for tokens that a ``key_mask`` hid; (B, 1, 0) before any mask.
        turn: which of the steps that wrote to these tensors it comes from, see `take_turn`.
    """

    k: Tensor
    v: Tensor
    length: int
    kept: Tensor
    turn: int = 0

    def with_tokens(
        self, mechanism: str, k: Tensor, v: Tensor, key_mask: Tensor | None, *, copied: bool
    ) -> KeyValueCache:
        """The same tensors with T tokens more: (B, H_kv, T, D), (B, H_kv, T, E)."""
        length = room_for(mechanism, self.k.shape[2], self.length, k.shape[2])
        turn = take_turn(mechanism, self.k, self.turn)
        new = {"k": k, "v": v} | kept_tokens(self.kept, k, key_mask)
        old = {"k": self.k, "v": self.v, "kept": room_to_keep(self.kept, self.k)}
        after = written(mechanism, old, self.length, new, copied=copied)
        return self._replace(length=length, turn=turn, **after)


class PairState(NamedTuple):
    """Keys and values of the tokens so far; token t stands at place t modulo R.

    R is ``seq_len``, or ``window`` if that is less.

    Attributes:
        k: (B, H_kv, R, D).
        v: (B, H_kv, R, E).
        sums: sums of log decays up to each token, (B, H, R), float64; None without decay.
        length: tokens so far, those that are no longer there included.
        gate: the core's ``kept_gate`` of each token, (B, ..., R, W), float32 or wider; if it has
            one.
        kept: (B, 1, R), False for tokens that a ``key_mask`` hid; (B, 1, 0) before any mask.
        turn: which of the steps that wrote to these tensors it comes from, see `take_turn`.
    """

    k: Tensor
    v: Tensor
    sums: Tensor | None
    length: int
    gate: Tensor | None
    kept: Tensor
    turn: int = 0


class CachedSoftmax(KeepsKeysAndValues):
    """A softmax core that decodes with a cache. It says how queries meet keys, and no more."""

    @abstractmethod
    def _attend(self, q: Tensor, k: Tensor, v: Tensor, allowed: Tensor | None) -> Tensor:
        """(B, H, T, D), (B, H, n, D), (B, H, n, E), (T, n) bool or None -> (B, H, T, E)."""

    def init_state(
        self,
        batch_size: int,
        *,
        dtype: torch.dtype,
        device: torch.device,
        num_kv_heads: int | None = None,
    ) -> KeyValueCache:
        """An empty cache with room for ``seq_len`` tokens, in the inputs' own dtype."""
        g = self.geometry
        if not g.causal:
            raise ValueError(
                f"{self.name}: a cache was asked for, and causal is False; it is needed True, as "
                "a token sees what came before it."
            )
        heads = (batch_size, num_kv_heads or g.num_kv_heads, g.seq_len)
        k, v = (
            torch.zeros(*heads, width, dtype=dtype, device=device)
            for width in (g.head_dim, g.value_dim)
        )
        return KeyValueCache(k, v, 0, all_kept(batch_size, device))

    def step(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        state: KeyValueCache,
        *,
        key_mask: Tensor | None = None,
    ) -> tuple[Tensor, KeyValueCache]:
        """The next T tokens: (B, H, T, D), (B, H_kv, T, D), (B, H_kv, T, E), state.

        A first prompt is a call of `forward`. One token, or another part of a prompt, meets the
        keys where they lie in the cache.

        Raises:
            ValueError: the cache has no room for T tokens more, is of other sizes, or used up.
        """
        past, num_heads = state.length, q.shape[1]
        copied = is_followed_step(self, q, k, v)
        state = state.with_tokens(self.name, k, v, key_mask, copied=copied)
        if past == 0 and q.shape[2] > 1:
            if not self.shares_heads:
                k, v = (for_every_query_head(x, num_heads) for x in (k, v))
            masks = {} if key_mask is None else {"key_mask": key_mask}
            return self.forward(q, k, v, **masks), state
        keys, values = (x[:, :, : state.length] for x in (state.k, state.v))
        mix = grouped_queries(q, keys.shape[1])
        seen = None
        if q.shape[2] > 1:
            pairs = torch.ones(q.shape[2], state.length, dtype=torch.bool, device=q.device)
            seen = pairs.tril(past).repeat(num_heads // keys.shape[1], 1)
        if state.kept.shape[2]:
            kept = state.kept[:, :, None, : state.length]
            seen = kept if seen is None else kept & seen
        return ungrouped(self._attend(mix, keys, values, seen), num_heads), state


def grouped_queries(q: Tensor, num_kv_heads: int) -> Tensor:
    """(B, H, T, D) -> (B, H_kv, H / H_kv * T, D): queries that share keys become one head's.

    So keys are read where they lie, once, and not written out for every query head.
    """
    return torch.unflatten(q, 1, (num_kv_heads, -1)).flatten(2, 3)


def ungrouped(out: Tensor, num_heads: int) -> Tensor:
    """The inverse for outputs: (B, H_kv, H / H_kv * T, E) -> (B, H, T, E)."""
    repeats = num_heads // out.shape[1]
    return torch.unflatten(out, 2, (repeats, -1)).flatten(1, 2)


def room_for(mechanism: str, capacity: int, length: int, more: int) -> int:
    """How many tokens there are with ``more``; a ValueError if there is no room for them."""
    if length + more > capacity:
        raise ValueError(
            f"{mechanism}: a state for {capacity} tokens holds {length}, and {more} more were "
            f"given; a Geometry with seq_len {length + more} or more is needed."
        )
    return length + more


def all_kept(batch_size: int, device: torch.device) -> Tensor:
    """The ``kept`` of a cache before there is a ``key_mask``: (B, 1, 0)."""
    return torch.empty(batch_size, 1, 0, dtype=torch.bool, device=device)


def room_to_keep(kept: Tensor, k: Tensor) -> Tensor:
    """The same for as many tokens as a cache of keys holds, all kept if nothing was hidden."""
    return kept if kept.shape[2] else kept.new_ones(*kept.shape[:2], k.shape[2])


def kept_tokens(kept: Tensor, k: Tensor, key_mask: Tensor | None) -> dict[str, Tensor]:
    """The ``kept`` of new tokens, (B, 1, T); nothing without any mask."""
    if key_mask is None and kept.shape[2] == 0:
        return {}
    new = k.new_ones(len(k), k.shape[2], dtype=torch.bool) if key_mask is None else key_mask
    return {"kept": new[:, None]}


def take_turn(mechanism: str, memory: Tensor, turn: int) -> int:
    """The number of a step that is about to write to a cache, whose tensor keeps the count.

    The last step may be taken again from the same state, for instance to time it; its earlier
    result is then used up. Compiled code does not count.

    Raises:
        ValueError: another way was taken from this state, or from an earlier one, which has
            overwritten what this one needs.
    """
    if torch.compiler.is_compiling():
        return turn
    before, last = memory.__dict__.get("_turns", (turn, turn))
    if turn not in (before, last):
        raise ValueError(
            f"{mechanism}: the state is used up: another step has written to its memory; the state "
            "that the last step returned is needed, or clone_state of this one before that step."
        )
    memory.__dict__["_turns"] = turn, last + 1
    return last + 1  # type: ignore[no-any-return]


def is_followed_step(core: nn.Module, *tokens: Tensor) -> bool:
    """Whether gradients of a step may be asked for, which need what its cache held."""
    return torch.is_grad_enabled() and any(
        x.requires_grad for x in itertools.chain(tokens, core.parameters())
    )


def written(
    mechanism: str,
    old: Mapping[str, Tensor],
    start: int,
    new: Mapping[str, Tensor],
    *,
    copied: bool,
) -> dict[str, Any]:
    """Tensors of a cache with tokens in their place: the same ones, or copies for gradients."""
    after = {x: old[x].clone() if copied or old[x].requires_grad else old[x] for x in new}
    for what, x in new.items():
        write(mechanism, what, after[what][:, :, start : start + x.shape[2]], x)
    return after


def write(mechanism: str, what: str, place: Tensor, new: Tensor) -> None:
    """Copy tokens into their place, which nothing may be stretched to fill.

    Nor may what is wide be narrowed without a word, except by autocast.
    """
    if place.shape != new.shape:
        raise ValueError(
            f"{mechanism}: {what} is of shape {tuple(new.shape)}; the state takes "
            f"{tuple(place.shape)}."
        )
    fits = new.dtype == place.dtype or is_autocast(new.device.type)
    if not fits or place.device != new.device:
        raise ValueError(
            f"{mechanism}: {what} is {new.dtype} on {new.device}; the state takes {place.dtype} "
            f"on {place.device}."
        )
    place.copy_(new)
