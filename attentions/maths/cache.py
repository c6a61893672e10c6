"""Key-value caches for decoding: allocated once for all tokens, filled in place."""

from __future__ import annotations

from abc import abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor

from ..precision import is_autocast
from .shared_heads import KeepsKeysAndValues, for_every_query_head


class KeyValueCache(NamedTuple):
    """Keys and values of the tokens so far, at the front of tensors that hold all that may come.

    Attributes:
        k: (B, H_kv, seq_len, D).
        v: (B, H_kv, seq_len, E).
        length: tokens that are there; what stands behind them means nothing.
    """

    k: Tensor
    v: Tensor
    length: int

    def with_tokens(self, mechanism: str, k: Tensor, v: Tensor) -> KeyValueCache:
        """The same tensors with T tokens more: (B, H_kv, T, D), (B, H_kv, T, E)."""
        length = room_for(mechanism, self.k.shape[2], self.length, k.shape[2])
        write(mechanism, "k", self.k[:, :, self.length : length], k)
        write(mechanism, "v", self.v[:, :, self.length : length], v)
        return self._replace(length=length)


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
        return KeyValueCache(k, v, 0)

    def step(
        self, q: Tensor, k: Tensor, v: Tensor, state: KeyValueCache
    ) -> tuple[Tensor, KeyValueCache]:
        """The next T tokens: (B, H, T, D), (B, H_kv, T, D), (B, H_kv, T, E), state.

        A first prompt is a call of `forward`. One token, or another part of a prompt, meets the
        keys where they lie in the cache.

        Raises:
            ValueError: the cache has no room for T tokens more, or is of other sizes.
        """
        past, num_heads = state.length, q.shape[1]
        state = state.with_tokens(self.name, k, v)
        if past == 0 and q.shape[2] > 1:
            if not self.shares_heads:
                k, v = (for_every_query_head(x, num_heads) for x in (k, v))
            return self.forward(q, k, v), state
        keys, values = (x[:, :, : state.length] for x in (state.k, state.v))
        mix = grouped_queries(q, keys.shape[1])
        seen = None
        if q.shape[2] > 1:
            pairs = torch.ones(q.shape[2], state.length, dtype=torch.bool, device=q.device)
            seen = pairs.tril(past).repeat(num_heads // keys.shape[1], 1)
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
