"""MoBA: softmax over a query's own block and the blocks whose mean key it matches best."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ..base import CallShape, Geometry
from ..capabilities import Capabilities
from ..checks import whole
from ..engines.chosen_blocks import chosen_blocks, decoded_pairs, executed_flops
from ..engines.pair import Attend, PairCore
from ..maths.blocks import (
    best_blocks,
    block_means,
    block_scores,
    blocks_before,
    own_blocks,
    pairs_of_blocks,
)
from ..precision import widen
from ..registry import register_attention


@register_attention(
    "moba",
    title="MoBA (mixture of block attention)",
    source="Lu et al., 2025, arXiv:2502.13189",
    family="sparse",
    capabilities=Capabilities(
        bidirectional=False, causal=True, recurrent=True, position_free=False
    ),
)
class Moba(PairCore):
    """Softmax over the keys of some blocks, chosen per query and head by their mean keys.

        out_t = sum_j softmax_j(q_t . k_j / sqrt(D)) v_j,    j <= t, in the chosen blocks

    Eq. 2 to 6. Chosen are the block of t itself, up to t, and of the blocks before it the
    ``top_k`` - 1 with the largest q_t . mean(k). ``top_k`` of 1 sees its own block only; with as
    many as there are blocks it is softmax attention. A last block may be shorter.

    The state of ``step`` is a cache of keys and values, whose means are taken again at each step.

    Hazards:
        - The choice has no gradient: a block that was never chosen never learns to be.
        - Where two blocks match equally well, either may be chosen.

    Differences:
        - Authors' faster code merges the own block and the others by log-sum-exp: the same softmax.
        - They replace all but the last few layers of a model; here it is a core.

    Args:
        geometry: the shape to build for; causal.
        block_size: tokens of a block.
        top_k: blocks of a query, its own among them.
    """

    softmax = True

    def __init__(self, geometry: Geometry, block_size: int = 512, top_k: int = 3) -> None:
        super().__init__(geometry)
        self.block_size = whole(self.name, "block_size", block_size, 1)
        self.top_k = whole(self.name, "top_k", top_k, 1)

    def mix(self, attend: Attend, q: Tensor, k: Tensor, v: Tensor, *gates: Tensor) -> Tensor:
        """Softmax over the chosen blocks; all of them where there are not more than chosen."""
        if k.shape[2] <= self.top_k * self.block_size:
            return attend(q, k, v)
        k, v = widen(k), widen(v)
        return chosen_blocks(q, k, v, self.choose(q, k), self.block_size, self.tile)

    @torch.no_grad()
    def choose(self, q: Tensor, k: Tensor) -> Tensor:
        """True for the blocks of each query, (B, H, N, blocks); queries are the last tokens."""
        scores = block_scores(q, block_means(k, self.block_size))
        own = own_blocks(q.shape[2], k.shape[2] - q.shape[2], self.block_size, q.device)
        blocks = torch.arange(-(-k.shape[2] // self.block_size), device=q.device)
        scores = functional.pad(scores, (0, len(blocks) - scores.shape[-1]))
        before = scores.masked_fill(blocks >= own, -torch.inf)
        return best_blocks(before, self.top_k - 1) | (blocks == own)

    def reference(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """All weights, query by query."""
        seen = torch.zeros(*q.shape[:3], k.shape[2], dtype=torch.bool, device=q.device)
        for t in range(q.shape[2]):
            start = t // self.block_size * self.block_size
            seen[:, :, t, start : t + 1] = True
            if start == 0 or self.top_k == 1:
                continue
            means = k[:, :, :start].unflatten(2, (-1, self.block_size)).mean(dim=3)
            matches = (q[:, :, t, None] * means).sum(dim=-1)
            rank = matches.argsort(dim=-1, descending=True).argsort(dim=-1)
            blocks = (rank < self.top_k - 1).repeat_interleave(self.block_size, dim=-1)
            seen[:, :, t, :start] = blocks
        scores = q @ k.mT / q.shape[-1] ** 0.5
        out: Tensor = scores.masked_fill(~seen, -torch.inf).softmax(dim=-1) @ v
        return out

    def _scored(self, num_tokens: int) -> int:
        """Block means, where they are needed."""
        is_all = num_tokens <= self.top_k * self.block_size
        return 0 if is_all else num_tokens // self.block_size

    def flops(self, shape: CallShape) -> int:
        """A score for each block before a query's own, and softmax over the chosen ones."""
        length, heads = shape.query_len, shape.batch_size * shape.num_heads
        scored = blocks_before(length, self.block_size) if self._scored(length) else 0
        pairs = pairs_of_blocks(length, self.block_size, self.top_k)
        return 2 * heads * (scored * shape.head_dim + pairs * self.pair_width(shape))

    def executed_flops(self, shape: CallShape) -> int:
        """As `flops`, with scores of later blocks too, and whole blocks or tiles."""
        scored = self._scored(shape.query_len) * shape.num_tokens * shape.head_dim
        return 2 * scored + executed_flops(shape, self.block_size, self.top_k, self.tile)

    def decode_flops(self, shape: CallShape) -> int:
        """One query scores all blocks and meets the keys of the chosen ones."""
        length, heads = shape.key_len, shape.batch_size * shape.num_heads
        pairs = decoded_pairs(length, self.block_size, self.top_k, self.tile)
        scored = self._scored(length) * shape.head_dim
        return 2 * heads * (scored + pairs * self.pair_width(shape))
