"""Native sparse attention: compressed blocks, the best blocks and a window, in gated shares."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..base import CallShape, Geometry
from ..capabilities import Capabilities, Gate
from ..checks import whole
from ..engines.chosen_blocks import BlockCore
from ..engines.pair import Attend
from ..maths.pairs.blocks import block_means, block_scores, blocks_before, pairs_of_blocks
from ..maths.pairs.tiles import last_pairs, tile_pairs
from ..maths.shared_heads import for_every_query_head
from ..precision import widen
from ..registry import register_attention

_SHARE = Gate("bhn", low=0, high=1, query=True)


@register_attention(
    "nsa",
    title="NSA (native sparse attention)",
    source="Yuan et al., 2025, arXiv:2502.11089",
    family="sparse",
    capabilities=Capabilities(
        bidirectional=False,
        causal=True,
        recurrent=True,
        gates={"gate_compression": _SHARE, "gate_selection": _SHARE, "gate_window": _SHARE},
        position_free=False,
        grouped_heads=True,
    ),
)
class Nsa(BlockCore):
    """Three softmax attentions of a query, each with a share of its own.

        out_t = g_cmp softmax(q_t K_c^T / sqrt(D)) V_c           K_c, V_c: means of ended blocks
              + g_slc softmax over the keys j <= t of chosen blocks
              + g_swa softmax over the last ``window`` tokens, t among them

    Eq. 5 to 12. Chosen are the first block, the query's own and the one before it, and then those
    of the ended blocks with the most compressed weight, ``num_blocks`` in all. Query heads that
    share a head of keys share the choice, by their mean weight. ``gate_compression``,
    ``gate_selection`` and ``gate_window``, (B, H, N), are between 0 and 1; without them each head
    has three that are learned, sigmoid(gate_logit), starting at 1/2.

    The state of ``step`` is a cache of keys and values, whose means are taken again at each step.

    Hazards:
        - The choice has no gradient, the compressed branch has; of equal weights either is chosen.
        - Nothing is compressed yet for the first tokens: they get nothing from that branch.
        - Keys repeated for all query heads are not this function: each head would choose alone.

    Differences:
        - The paper compresses overlapping blocks by a learned map, and has keys and values of their
          own in each branch; this is the function of flash-linear-attention, with means.
        - An older kernel forces a query's own block only, and adds weights of a group up.

    Args:
        geometry: the shape to build for; causal.
        block_size: tokens of a block.
        num_blocks: blocks that a query chooses, the three forced ones among them.
        window: tokens of the window, the query's own among them.
    """

    def __init__(
        self, geometry: Geometry, block_size: int = 64, num_blocks: int = 16, window: int = 512
    ) -> None:
        super().__init__(geometry)
        self.block_size = whole(self.name, "block_size", block_size, 1)
        self.most = whole(self.name, "num_blocks", num_blocks, 3)
        self.near = whole(self.name, "window", window, 1)
        self.gate_logit = nn.Parameter(torch.zeros(3, geometry.num_heads))

    def learned_gates(self, k: Tensor) -> dict[str, Tensor]:
        """Three shares per head."""
        return dict(zip(self.gates, widen(self.gate_logit).sigmoid(), strict=True))

    def mix(self, attend: Attend, q: Tensor, k: Tensor, v: Tensor, *gates: Tensor) -> Tensor:
        """All three branches."""
        past, size = k.shape[2] - q.shape[2], self.block_size
        compression, selection, near = (gate.to(q.dtype).unsqueeze(-1) for gate in gates)
        first = max(0, past - self.near + 1)
        window = attend.over(k.shape[2] - first, past=past - first, window=self.near)
        out = selection * super().mix(attend, q, k, v)
        out = out + near * window(q, k[:, :, first:], v[:, :, first:])
        means, values = (block_means(widen(x), size) for x in (k, v))
        if means.shape[2]:
            ended = torch.arange(past + 1, k.shape[2] + 1, device=q.device).unsqueeze(-1) // size
            allowed = torch.arange(means.shape[2], device=q.device) < ended
            out = out + compression * attend.over(means.shape[2], allowed)(q, means, values)
        return out

    def order(self, q: Tensor, means: Tensor, places: Tensor, blocks: Tensor) -> Tensor:
        """Mean weights of a group's queries, of ended blocks; some are forced."""
        own, is_ended = places // self.block_size, blocks < (places + 1) // self.block_size
        scores = block_scores(q * q.shape[-1] ** -0.5, means)
        weights = scores.masked_fill(~is_ended, -torch.inf).softmax(dim=-1)
        shared = torch.unflatten(weights, 1, (means.shape[1], -1)).mean(dim=2)
        order = shared.masked_fill(~is_ended, -torch.inf)
        forced = (blocks == 0) & (own > 0) | (blocks == own - 1)
        return for_every_query_head(order.masked_fill(forced, torch.inf), q.shape[1])

    def reference(self, q: Tensor, k: Tensor, v: Tensor, **gates: Tensor) -> Tensor:
        """All weights of each branch, those of means spread over their keys."""
        size, t = self.block_size, torch.arange(q.shape[2], device=q.device)
        keys, values = (for_every_query_head(x, q.shape[1]) for x in (k, v))
        scores = q @ keys.mT / q.shape[-1] ** 0.5
        own, later = t[:, None] // size, t > t[:, None]
        blocks = torch.arange(-(-len(t) // size), device=q.device)
        means = scores @ (own == blocks).to(q.dtype) / size
        hidden = (blocks + 1) * size > t[:, None] + 1
        means = means.masked_fill(hidden, torch.finfo(q.dtype).min).softmax(dim=-1)
        means = means.masked_fill(hidden, 0)
        order = means.detach().unflatten(1, (k.shape[1], -1)).mean(dim=2)
        order = order.masked_fill((blocks == 0) | (blocks == own) | (blocks == own - 1), 2)
        ranks = order.masked_fill(blocks > own, -1).argsort(dim=-1, descending=True).argsort(dim=-1)
        chosen = for_every_query_head(ranks < self.most, q.shape[1])[..., t // size] & ~later
        near = ~later & (t > t[:, None] - self.near)
        maps = [scores.masked_fill(~seen, -torch.inf).softmax(dim=-1) for seen in (chosen, near)]
        maps = [means[..., t // size] / size, *maps]
        shares = self._gates(q, k, None, gates)
        each = [g[..., None] * m for g, m in zip(shares, maps, strict=True)]
        return torch.stack(each).sum(dim=0) @ values

    def flops(self, shape: CallShape) -> int:
        """Softmax over means, over chosen blocks and over the window."""
        n, size = shape.query_len, self.block_size
        pairs = blocks_before(n + 1, size) + pairs_of_blocks(n, size, self.most)
        is_same = self.sees_all(n) and n <= self.near  # a window of all that the blocks hold
        pairs += 0 if is_same else last_pairs(n, self.near)
        return 2 * shape.batch_size * shape.num_heads * pairs * self.pair_width(shape)

    def executed_flops(self, shape: CallShape) -> int:
        """As `flops`, with whole tiles and blocks, and scores of means again for the choice."""
        pairs = shape.num_tokens * (shape.query_len // self.block_size)
        pairs += tile_pairs(shape, self.tile, self.near)
        return super().executed_flops(shape) + 2 * pairs * self.pair_width(shape)

    def decode_flops(self, shape: CallShape) -> int:
        """One query meets all means, the chosen blocks and the window."""
        pairs = shape.key_len // self.block_size + min(shape.key_len, self.near)
        heads = shape.batch_size * shape.num_heads
        return super().decode_flops(shape) + 2 * heads * pairs * self.pair_width(shape)
