"""Softmax attention to the keys with the largest scores."""

from __future__ import annotations

import torch
from torch import Tensor

from ..base import CallShape, Geometry
from ..capabilities import Capabilities
from ..checks import whole
from ..engines.chosen_keys import best_keys, scored_pairs
from ..engines.pair import Attend, PairCore
from ..maths.pairs.tiles import Tiling
from ..precision import widen
from ..registry import register_attention


@register_attention(
    "topk",
    title="Top-k attention",
    source="Zhao et al., 2019, arXiv:1912.11637; Gupta et al., 2021, arXiv:2106.06899",
    family="sparse",
    capabilities=Capabilities(
        causal=True, cross=True, recurrent=True, masks=frozenset({"padding", "dense"})
    ),
)
class TopK(PairCore):
    """Softmax over the k largest of a query's scores q . k / sqrt(D); all other weights are zero.

    Exact: every visible key is scored, so time grows with N x M. Scores are taken for some queries
    at a time and forgotten, so memory grows with N. They are float64, so that which keys are the
    largest does not depend on the order of a sum; where scores are equal, any of them may
    be among the k. The choice itself has no gradient.

    A query that sees fewer than k keys attends to all of them; one that sees none gets zeros. The
    state of ``step`` is a cache of keys and values.

    Hazards:
        - The choice of keys has no gradient: a key that was never among the largest never learns to
          be.
        - Every visible key is scored, so time grows with N x M.

    Differences:
        - Zhao et al. mask the other scores before the softmax, Gupta et al. gather the largest; the
          function is the same.

    Args:
        geometry: the shape to build for.
        k: keys per query; 8 did best in translation (Zhao et al., Sec. 4).
        chunk_size: queries that are scored at a time.
    """

    def __init__(self, geometry: Geometry, k: int = 8, chunk_size: int = 64) -> None:
        super().__init__(geometry)
        self.k = whole(self.name, "k", k, 1)
        self.tile = whole(self.name, "chunk_size", chunk_size, 1)

    def mix(self, attend: Attend, q: Tensor, k: Tensor, v: Tensor, *gates: Tensor) -> Tensor:
        """Softmax over the chosen keys."""
        return best_keys(q, widen(k), widen(v), self.k, attend.tiling, attend.allowed)

    def keys_kept(self, q: Tensor, k: Tensor, v: Tensor, **gates: Tensor) -> Tensor:
        """At most k of those that a query may see."""
        if not self.geometry.causal:
            return torch.full((q.shape[2],), min(self.k, k.shape[2]), device=q.device)
        return torch.arange(1, q.shape[2] + 1, device=q.device).clamp(max=self.k)

    def reference(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """All weights, those of scores below the k-th largest set to zero."""
        scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
        if self.geometry.causal:
            later = torch.ones_like(scores).triu(1) > 0
            scores = scores.masked_fill(later, -torch.inf)
        place = min(self.k, k.shape[-2]) - 1
        threshold = scores.sort(dim=-1, descending=True).values[..., place : place + 1]
        weights = (scores - scores.amax(dim=-1, keepdim=True)).exp()
        weights = weights.masked_fill(scores < threshold, 0.0)
        out: Tensor = weights / weights.sum(dim=-1, keepdim=True) @ v
        return out

    def flops(self, shape: CallShape) -> int:
        """A score for each pair that may be seen, and the mix of the chosen values."""
        if not shape.causal:
            chosen = shape.num_tokens * min(self.k, shape.key_len)
        else:
            full, partial = shape.query_len, min(self.k - 1, shape.query_len)
            per_head = self.k * (full - partial) + partial * (partial + 1) // 2
            chosen = shape.batch_size * shape.num_heads * per_head
        return 2 * shape.num_pairs * shape.head_dim + 2 * chosen * shape.value_dim

    def executed_flops(self, shape: CallShape) -> int:
        """As `flops`, with whole chunks if causal, and the chosen scores recomputed."""
        n, m = shape.query_len, shape.key_len
        tiling = Tiling(query_len=n, key_len=m, size=self.tile, causal=shape.causal)
        return self._executed(shape, scored_pairs(tiling), n)

    def decode_flops(self, shape: CallShape) -> int:
        """One query scores all keys, and meets the chosen ones."""
        return self._executed(shape, shape.key_len, 1)

    def _executed(self, shape: CallShape, scored: int, queries: int) -> int:
        """So many scores of each head, and the chosen keys and values of so many queries."""
        chosen = queries * min(self.k, shape.key_len) * self.pair_width(shape)
        return 2 * shape.batch_size * shape.num_heads * (scored * shape.head_dim + chosen)
