"""Softmax within a band of keys around each query, by torch's fused attention."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from ..maths.pairs.tiles import Tiling
from ..maths.shared_heads import for_every_query_head

_LARGEST_BLOCK = 128
"""Queries of a block: with more, too many of its pairs lie outside the band."""


class Band(NamedTuple):
    """How far queries see, and how many of them go together.

    Blocks of queries meet the block of keys that all their windows lie in; neighbouring blocks of
    keys overlap. In a sequence that is hardly longer than such a block all pairs are computed.

    Attributes:
        left: keys seen before a query.
        right: keys seen behind it.
        block: queries of a block.
        query_len: N.
        key_len: M.
    """

    left: int
    right: int
    block: int
    query_len: int
    key_len: int

    @classmethod
    def of(cls, tiling: Tiling) -> Band:
        """The window of a call, of no more keys than there are."""
        left = min(tiling.window or tiling.key_len, tiling.key_len) - 1
        block = min(max(left, 1), _LARGEST_BLOCK, tiling.query_len)
        right = 0 if tiling.causal else left
        return cls(left, right, block, tiling.query_len, tiling.key_len)

    @property
    def width(self) -> int:
        """Keys that the queries of a block see between them."""
        return self.left + self.block + self.right

    @property
    def num_blocks(self) -> int:
        """Blocks of queries, the last of which may have fewer."""
        return -(-self.query_len // self.block)

    @property
    def is_whole(self) -> bool:
        """True where the keys of a block would be all keys."""
        return self.width >= self.key_len

    @property
    def pairs(self) -> int:
        """Pairs that are computed, of one head."""
        if self.is_whole:
            return self.query_len * self.key_len
        return self.num_blocks * self.block * self.width


def banded(q: Tensor, k: Tensor, v: Tensor, tiling: Tiling) -> Tensor:
    """(B, H, N, D), (B, H_kv, M, D), (B, H_kv, M, E) -> (B, H, N, E).

    Query i stands at key ``tiling.past`` + i, and no key behind the last query.
    """
    k, v = (for_every_query_head(x, q.shape[1]) for x in (k, v))
    band, past = Band.of(tiling), tiling.past
    if band.is_whole:
        pairs = torch.ones(band.query_len, band.key_len, dtype=torch.bool, device=q.device)
        seen = pairs.tril(past + band.right).triu(past - band.left)
        return functional.scaled_dot_product_attention(q, k, v, seen)
    missing = band.num_blocks * band.block - band.query_len
    before = band.left - past  # keys that the first query would see, if there were any
    queries = torch.unflatten(_padded(q, 0, missing), -2, (band.num_blocks, band.block))
    keys, values = (  # overlapping views: (B * H, blocks, keys of a block, D)
        _padded(x, before, band.right + missing)
        .flatten(0, 1)
        .unfold(1, band.width, band.block)
        .transpose(-2, -1)
        for x in (k, v)
    )
    mask = _seen(band, before, q.device)
    out = functional.scaled_dot_product_attention(queries.flatten(0, 1), keys, values, mask)
    return torch.unflatten(out.flatten(1, 2)[:, : band.query_len], 0, q.shape[:2])


def _padded(x: Tensor, before: int, after: int) -> Tensor:
    return functional.pad(x, (0, 0, before, after))


def _seen(band: Band, before: int, device: torch.device) -> Tensor:
    """(1, blocks, queries of a block, keys of a block), True if seen."""
    # The key's place in the padded tensor; queries stand ``band.left`` places further on.
    query = torch.arange(band.block, device=device)[:, None]
    key = torch.arange(band.width, device=device)
    is_near = (key >= query) & (key <= query + band.left + band.right)
    first = torch.arange(band.num_blocks, device=device)[:, None, None] * band.block
    exists = (first + key >= before) & (first + key < band.left + band.query_len)
    # A query that is only there to fill its block sees all: an empty row has no softmax.
    seen = (is_near & exists) | (first + query >= band.query_len)
    return seen[None]
