"""MoBA: softmax over a query's own block and the blocks whose mean key it matches best."""

from __future__ import annotations

import torch
from torch import Tensor

from ..base import Geometry
from ..capabilities import Capabilities
from ..checks import whole
from ..engines.chosen_blocks import BlockCore
from ..maths.pairs.blocks import block_scores
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
class Moba(BlockCore):
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

    def __init__(self, geometry: Geometry, block_size: int = 512, top_k: int = 3) -> None:
        super().__init__(geometry)
        self.block_size = whole(self.name, "block_size", block_size, 1)
        self.most = whole(self.name, "top_k", top_k, 1)

    def order(self, q: Tensor, means: Tensor, places: Tensor, blocks: Tensor) -> Tensor:
        """Blocks before a query's own by q . mean, which is not scaled."""
        return block_scores(q, means).masked_fill(blocks >= places // self.block_size, -torch.inf)

    def reference(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """All weights, query by query."""
        seen = torch.zeros(*q.shape[:3], k.shape[2], dtype=torch.bool, device=q.device)
        for t in range(q.shape[2]):
            start = t // self.block_size * self.block_size
            seen[:, :, t, start : t + 1] = True
            if start == 0 or self.most == 1:
                continue
            means = k[:, :, :start].unflatten(2, (-1, self.block_size)).mean(dim=3)
            matches = (q[:, :, t, None] * means).sum(dim=-1)
            rank = matches.argsort(dim=-1, descending=True).argsort(dim=-1)
            blocks = (rank < self.most - 1).repeat_interleave(self.block_size, dim=-1)
            seen[:, :, t, :start] = blocks
        scores = q @ k.mT / q.shape[-1] ** 0.5
        out: Tensor = scores.masked_fill(~seen, -torch.inf).softmax(dim=-1) @ v
        return out
