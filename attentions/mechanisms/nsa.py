"""Native sparse attention: compressed blocks, the best blocks and a window, in gated shares."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..base import CallShape, Geometry
from ..capabilities import Capabilities, Gate
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
from ..maths.shared_heads import for_every_query_head
from ..maths.tiles import Tiling, tiled_flops
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
class Nsa(PairCore):
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

    softmax = True

    def __init__(
        self, geometry: Geometry, block_size: int = 64, num_blocks: int = 16, window: int = 512
    ) -> None:
        super().__init__(geometry)
        self.block_size = whole(self.name, "block_size", block_size, 1)
        self.num_blocks = whole(self.name, "num_blocks", num_blocks, 3)
        self.reach = whole(self.name, "window", window, 1)
        self.gate_logit = nn.Parameter(torch.zeros(3, geometry.num_heads))

    def learned_gates(self, k: Tensor) -> dict[str, Tensor]:
        """Three shares per head."""
        return dict(zip(self.gates, widen(self.gate_logit).sigmoid(), strict=True))

    def mix(self, attend: Attend, q: Tensor, k: Tensor, v: Tensor, *gates: Tensor) -> Tensor:
        """All three branches."""
        k, v, size = widen(k), widen(v), self.block_size
        means, mean_values = block_means(k, size), block_means(v, size)
        length, past = q.shape[2], k.shape[2] - q.shape[2]
        compression, selection, near = (gate.to(q.dtype).unsqueeze(-1) for gate in gates)
        if self._sees_all(k.shape[2]):
            out = (selection + near) * attend(q, k, v)
        else:
            first = max(0, past - self.reach + 1)
            tiling = replace(
                attend.tiling, window=self.reach, past=past - first, key_len=k.shape[2] - first
            )
            out = near * replace(attend, tiling=tiling)(q, k[:, :, first:], v[:, :, first:])
        ended = own_blocks(length, past + 1, size, q.device)  # blocks up to each query
        if means.shape[2]:
            tiling = Tiling(query_len=length, key_len=means.shape[2], size=self.tile, causal=False)
            allowed = torch.arange(means.shape[2], device=q.device) < ended
            to_means = replace(attend, tiling=tiling, allowed=allowed)
            out = out + compression * to_means(q, means, mean_values)
        if self._sees_all(k.shape[2]):
            return out
        chosen = self.choose(q, k, means, ended)
        return out + selection * chosen_blocks(q, k, v, chosen, size, self.tile)

    @torch.no_grad()
    def choose(self, q: Tensor, k: Tensor, means: Tensor, ended: Tensor) -> Tensor:
        """True for the blocks of each query, (B, H, N, blocks)."""
        blocks = torch.arange(-(-k.shape[2] // self.block_size), device=q.device)
        own = own_blocks(q.shape[2], k.shape[2] - q.shape[2], self.block_size, q.device)
        is_ended = blocks[: means.shape[2]] < ended
        scores = block_scores(q * q.shape[-1] ** -0.5, means)
        weights = scores.masked_fill(~is_ended, -torch.inf).softmax(dim=-1)
        shared = weights.unflatten(1, (k.shape[1], -1)).mean(dim=2)
        shared = shared.masked_fill(~is_ended, -torch.inf)
        shared = functional.pad(shared, (0, len(blocks) - shared.shape[-1]), value=-torch.inf)
        forced = (blocks == 0) | ((blocks <= own) & (blocks >= own - 1))
        best = best_blocks(shared.masked_fill(forced, torch.inf), self.num_blocks)
        return for_every_query_head(best, q.shape[1])

    def reference(self, q: Tensor, k: Tensor, v: Tensor, **gates: Tensor) -> Tensor:
        """Query by query, each branch by its own weights."""
        logits = zip(self.gates, self.gate_logit.sigmoid(), strict=True)
        shares = [gates.get(x, one[:, None].expand(q.shape[:3]))[..., None] for x, one in logits]
        shared, size, outputs = q.shape[1] // k.shape[1], self.block_size, []
        keys, values = (x.repeat_interleave(shared, dim=1) for x in (k, v))
        for t in range(q.shape[2]):
            scores = (keys[:, :, : t + 1] @ q[:, :, t, :, None])[..., 0] / q.shape[-1] ** 0.5
            ended, own = (t + 1) // size, t // size
            maps, order = [], torch.zeros(*scores.shape[:2], own + 1, dtype=q.dtype)
            if ended:
                means = scores[..., : ended * size].unflatten(-1, (ended, size)).mean(dim=-1)
                weights = means.softmax(dim=-1)
                maps.append(weights.repeat_interleave(size, dim=-1) / size)
                maps[0] = functional.pad(maps[0], (0, t + 1 - ended * size))
                by_group = weights.detach().unflatten(1, (-1, shared)).mean(dim=2)
                order[..., :ended] = by_group.repeat_interleave(shared, dim=1)
            order[..., [0, max(own - 1, 0), own]] = 2.0  # above all weights
            ranks = order.argsort(dim=-1, descending=True).argsort(dim=-1)
            chosen = (ranks < self.num_blocks).repeat_interleave(size, dim=-1)[..., : t + 1]
            near = torch.arange(t + 1) > t - self.reach
            maps += [scores.masked_fill(~x, -torch.inf).softmax(dim=-1) for x in (chosen, near)]
            gated = [g[:, :, t] * m for g, m in zip(shares[-len(maps) :], maps, strict=True)]
            outputs.append((sum(gated)[..., None] * values[:, :, : t + 1]).sum(dim=2))
        return torch.stack(outputs, dim=2)

    def _sees_all(self, num_tokens: int) -> bool:
        """Whether a window and the chosen blocks are all tokens, and so the same softmax."""
        return num_tokens <= min(self.reach, self.num_blocks * self.block_size)

    def flops(self, shape: CallShape) -> int:
        """Softmax over means, over chosen blocks and over the window."""
        n, size, near = shape.query_len, self.block_size, min(self.reach, shape.query_len)
        pairs = blocks_before(n + 1, size) + pairs_of_blocks(n, size, self.num_blocks)
        if not self._sees_all(n):
            pairs += near * n - near * (near - 1) // 2
        return 2 * shape.batch_size * shape.num_heads * pairs * self.pair_width(shape)

    def executed_flops(self, shape: CallShape) -> int:
        """As `flops`, with whole tiles and blocks, and scores of means again for the choice."""
        n, heads = shape.query_len, shape.batch_size * shape.num_heads
        pairs = n * (n // self.block_size)
        if self._sees_all(n):
            return 2 * heads * pairs * self.pair_width(shape) + tiled_flops(shape, self.tile)
        own = 2 * heads * pairs * (self.pair_width(shape) + shape.head_dim)
        near = tiled_flops(shape, self.tile, self.reach)
        return own + near + executed_flops(shape, self.block_size, self.num_blocks, self.tile)

    def decode_flops(self, shape: CallShape) -> int:
        """One query meets all means, the chosen blocks and the window."""
        n, size, scored = shape.key_len, self.block_size, 0
        pairs = n // size + (n if self._sees_all(n) else min(n, self.reach))
        if not self._sees_all(n):
            pairs += decoded_pairs(n, size, self.num_blocks, self.tile)
            scored = n // size * shape.head_dim
        return 2 * shape.batch_size * shape.num_heads * (pairs * self.pair_width(shape) + scored)
