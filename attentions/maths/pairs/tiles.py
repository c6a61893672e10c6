"""Attention tile by tile, without ever allocating an N x M matrix.

A backward pass that recomputes each tile keeps memory linear in N in both directions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ...geometry import CallShape


@dataclass(frozen=True, kw_only=True)
class Tiling:
    """How the pairs of a call are cut into tiles.

    Attributes:
        query_len: N.
        key_len: M; past + N if causal.
        size: the most queries and the most keys of a tile.
        causal: whether pairs whose key is later than the query are hidden. Tiles of nothing but
            such pairs are left out.
        window: keys that a query sees before it, the one at its own place among them, and as many
            behind it unless causal; None for all.
        past: keys before the first query's place.
        width: the most keys of a tile if that is not ``size``.
    """

    query_len: int
    key_len: int
    size: int
    causal: bool
    window: int | None = None
    past: int = 0
    width: int | None = None

    @property
    def ahead(self) -> int | None:
        """Keys that a query sees behind its own place; None for all."""
        if self.causal:
            return 0
        return None if self.window is None else self.window - 1

    def rows(self) -> Iterator[slice]:
        """Queries, chunk by chunk."""
        for start in range(0, self.query_len, self.size):
            yield slice(start, min(start + self.size, self.query_len))

    def columns(self, rows: slice) -> Iterator[slice]:
        """Keys that some of these queries may see, chunk by chunk."""
        width = self.width or self.size
        end = self.key_len
        if self.ahead is not None:
            end = min(end, self.past + rows.stop + self.ahead)
        first = 0
        if self.window is not None:
            first = max(0, self.past + rows.start - self.window + 1)
        if torch.compiler.is_compiling() and self.query_len == 1:
            yield slice(first, end)  # one graph for a cache of any length
            return
        for start in range(first // width * width, end, width):
            yield slice(start, min(start + width, end))

    def hidden(
        self, rows: slice, columns: slice, allowed: Tensor | None, device: torch.device
    ) -> Tensor | None:
        """True for the pairs of a tile to hide, or None if there are none.

        Args:
            rows: of the tile.
            columns: of the tile.
            allowed: a mask for all pairs, broadcasting to (B, H, N, M), True keeps; causality
                need not be in it.
            device: where the tile is.
        """
        hidden, ahead = None, self.ahead
        first, last = self.past + rows.start, self.past + rows.stop - 1
        leaves = self.window is not None and columns.start <= last - self.window
        if ahead is not None and (leaves or columns.stop > first + 1 + ahead):
            query = torch.arange(first, last + 1, device=device)[:, None]
            key = torch.arange(columns.start, columns.stop, device=device)
            hidden = key > query + ahead
            if self.window is not None:
                hidden = hidden | (key <= query - self.window)
        if allowed is not None:
            masked = ~_cut(_cut(allowed, -2, rows), -1, columns)
            hidden = masked if hidden is None else hidden | masked
        return hidden


def _cut(mask: Tensor, axis: int, part: slice) -> Tensor:
    """A part of an axis, unless it is one that broadcasts."""
    if mask.dim() < -axis or mask.shape[axis] == 1:
        return mask
    return mask.narrow(axis, part.start, part.stop - part.start)


def scaled(x: Tensor) -> Tensor:
    """Divide by sqrt(D): before the products, where large entries could overflow. Contiguous."""
    return x.contiguous() * (1 / math.sqrt(x.shape[-1]))


def tile_pairs(shape: CallShape, size: int, window: int | None = None) -> int:
    """Pairs of all tiles, hidden ones included, over batch and heads."""
    tiling = Tiling(
        query_len=shape.query_len,
        key_len=shape.key_len,
        size=size,
        causal=shape.causal,
        window=window,
    )
    pairs: int = sum(
        (rows.stop - rows.start) * (columns.stop - columns.start)
        for rows in tiling.rows()
        for columns in tiling.columns(rows)
    )
    return shape.batch_size * shape.num_heads * pairs


def tiled_flops(shape: CallShape, size: int, window: int | None = None) -> int:
    """Scores and the mix of values for every pair of every tile, hidden ones included."""
    return 2 * tile_pairs(shape, size, window) * (shape.head_dim + shape.value_dim)


def last_pairs(num_tokens: int, most: int) -> int:
    """Pairs of each token with the tokens up to it, or with ``most`` of them if there are more.

    >>> last_pairs(5, 2), last_pairs(5, 9)
    (9, 15)
    """
    most = min(most, num_tokens)
    return num_tokens * most - most * (most - 1) // 2
