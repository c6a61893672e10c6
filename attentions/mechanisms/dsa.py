"""DeepSeek sparse attention: a light indexer scores all keys, softmax sees the best of them."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from ..base import CallShape, Geometry
from ..capabilities import RECURRENT, Gate
from ..checks import whole
from ..engines.pair import Attend, PairCore
from ..maths.pairs.blocks import best_blocks
from ..maths.pairs.tiles import Tiling, last_pairs, tile_pairs
from ..maths.shared_heads import for_every_query_head
from ..precision import widen
from ..registry import register_attention


@register_attention(
    "dsa",
    title="DSA (DeepSeek sparse attention)",
    source="DeepSeek-AI, 2025, DeepSeek-V3.2, arXiv:2512.02556",
    family="sparse",
    capabilities=replace(
        RECURRENT,
        gates={
            "index_q": Gate("bgnw", query=True),
            "index_k": Gate("bonw"),
            "index_weight": Gate("bgn", query=True),
        },
        auxiliary_loss=True,
    ),
)
class Dsa(PairCore):
    """Softmax over the ``top_k`` keys that an indexer scores highest, the same for all heads.

        I_ts = sum_h w_th relu(qI_th . kI_s);    out_t = softmax over the top_k keys s <= t by I_ts

    Eq. 1 and 2. ``index_q``, (B, G, N, W), ``index_k``, (B, 1, N, W) or (B, N, W), one key for
    all G index heads, and ``index_weight``, (B, G, N), of any sign, are the indexer's; without them
    a query sees the last ``top_k`` keys. With ``top_k`` of N or more it is softmax attention. The
    indexer gets no gradient from the output: `auxiliary_loss` trains it.

    The state of ``step`` is a cache of keys, values and index keys. All pairs are scored and, but
    for a single query, all are computed under a mask of N x N: fewer keys save no time there.

    Hazards:
        - The choice has no gradient. Scores are exactly 0 where no index head fires: with few index
          heads whole rows tie at the cut. Here the later key is chosen, by torch.topk any.
        - Narrow dtypes change the choice: scores are float32 or wider.

    Differences:
        - DeepSeek's attention is MLA in its absorbed form; here any keys and values.
        - Positive factors of the scores, such as W^(-1/2), change no choice and are left out.
        - Its indexer has 64 heads of 128 channels, a norm, rotations and fp8.
        - flash-linear-attention 0.6 has it in plain PyTorch, without a kernel: there is no adapter.

    Args:
        geometry: the shape to build for; causal.
        top_k: keys of a query.
        index_heads: G.
        index_dim: W.
    """

    softmax = True
    kept_gate = "index_k"

    def __init__(
        self, geometry: Geometry, top_k: int = 2048, index_heads: int = 8, index_dim: int = 32
    ) -> None:
        super().__init__(geometry)
        self.top_k = whole(self.name, "top_k", top_k, 1)
        heads = whole(self.name, "index_heads", index_heads, 1)
        self.gate_axes = {"g": heads, "w": whole(self.name, "index_dim", index_dim, 1)}

    def learned_gates(self, k: Tensor) -> dict[str, Tensor]:
        """Zeros: every key scores the same."""
        sizes = {name: self.gate_shape(name, len(k), k.shape[2]) for name in self.gates}
        return {name: widen(k.new_zeros(size)) for name, size in sizes.items()}

    def mix(self, attend: Attend, q: Tensor, k: Tensor, v: Tensor, *gates: Tensor) -> Tensor:
        """Softmax over the chosen keys."""
        if k.shape[2] <= self.top_k:
            return attend(q, k, v)
        if q.shape[2] > 1 or attend.allowed is not None:
            index = (gates[0], gates[1], gates[2])
            return attend(q, k, v, chosen_keys(self.top_k, attend.tiling, attend.allowed, index))
        with torch.no_grad():
            places = index_scores(*gates).topk(self.top_k, dim=-1).indices.mT  # (B, 1, K, 1)
        k, v = (x.take_along_dim(places, dim=2) for x in (k, v))
        return attend.over(self.top_k)(q, k, v)

    def keys_kept(self, q: Tensor, k: Tensor, v: Tensor, **gates: Tensor) -> Tensor:
        """At most ``top_k`` of the keys so far."""
        return torch.arange(1, q.shape[2] + 1, device=q.device).clamp(max=self.top_k)

    def auxiliary_loss(self, q: Tensor, k: Tensor, v: Tensor, **gates: Tensor) -> Tensor:
        """KL divergence of the indexer's softmax from the heads' mean weights, Eq. 4.

        Both over the chosen keys, a mean over queries; weights are constants.
        """
        matches = q @ for_every_query_head(k, q.shape[1]).mT / q.shape[-1] ** 0.5
        return index_loss(index_scores(*self._gates(q, k, None, gates)), matches, self.top_k)

    def reference(self, q: Tensor, k: Tensor, v: Tensor, **gates: Tensor) -> Tensor:
        """All weights, those of keys that were not chosen set to zero."""
        index_q, index_k, index_weight = self._gates(q, k, None, gates)
        scores = ((index_q @ index_k.mT).clamp(min=0) * index_weight[..., None]).sum(dim=1)
        later = torch.ones_like(scores).triu(1) > 0
        # From the last key: a stable sort has the later one of equal scores first.
        last_first = scores.masked_fill(later, -torch.inf).flip(-1)
        order = last_first.argsort(dim=-1, descending=True, stable=True)
        ranks = order.argsort(dim=-1).flip(-1)
        hidden = (later | (ranks >= self.top_k)).unsqueeze(1)
        weights = (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(hidden, -torch.inf).softmax(dim=-1)
        out: Tensor = weights @ v
        return out

    def _index_flops(self, shape: CallShape, pairs: int) -> int:
        """Scores of so many pairs of a sequence, where not all keys are seen anyway."""
        per_pair = self.gate_axes["g"] * self.gate_axes["w"] if shape.key_len > self.top_k else 0
        return 2 * shape.batch_size * pairs * per_pair

    def flops(self, shape: CallShape) -> int:
        """Index scores of all pairs, and softmax over the chosen ones."""
        n, heads = shape.query_len, shape.batch_size * shape.num_heads
        pairs = heads * last_pairs(n, self.top_k)
        return self._index_flops(shape, last_pairs(n, n)) + 2 * pairs * self.pair_width(shape)

    def executed_flops(self, shape: CallShape) -> int:
        """Index scores and softmax of all pairs, in whole tiles."""
        pairs = tile_pairs(replace(shape, batch_size=1, num_heads=1), self.tile)
        return self._index_flops(shape, pairs) + super().executed_flops(shape)

    def decode_flops(self, shape: CallShape) -> int:
        """Index scores of one query with all keys, which then meets the chosen ones."""
        pairs = shape.batch_size * shape.num_heads * min(self.top_k, shape.key_len)
        return self._index_flops(shape, shape.key_len) + 2 * pairs * self.pair_width(shape)


_LATER = 1e-30
"""Added to a score per place: of scores of 0, the later key's is the larger."""


def index_scores(index_q: Tensor, index_k: Tensor, index_weight: Tensor) -> Tensor:
    """Scores of pairs, sum_h w_h relu(q_h . k).

    Args:
        index_q: (B, G, N, W).
        index_k: (B, 1, M, W).
        index_weight: (B, G, N).

    Returns:
        (B, 1, N, M).
    """
    matches = (index_q @ index_k.mT).relu() * index_weight.unsqueeze(-1)
    places = torch.arange(index_k.shape[2], device=index_k.device)
    return matches.sum(dim=1, keepdim=True) + _LATER * places


@torch.no_grad()
def chosen_keys(
    most: int, tiling: Tiling, allowed: Tensor | None, index: tuple[Tensor, ...]
) -> Tensor:
    """True for the keys of each query with the highest scores, (B, 1, N, M).

    Args:
        most: keys of a query.
        tiling: of the call; its rows are scored at a time.
        allowed: masks of the call, broadcasting to (B, 1, N, M).
        index: as `index_scores` takes it.
    """
    index_q, index_k, index_weight = index
    rows, length = [], index_k.shape[2]
    for at in tiling.rows():
        end = slice(0, tiling.past + at.stop)
        scores = index_scores(index_q[:, :, at], index_k[:, :, end], index_weight[:, :, at])
        hidden = tiling.hidden(at, end, allowed, scores.device)
        scores = scores if hidden is None else scores.masked_fill(hidden, -torch.inf)
        rows.append(functional.pad(best_blocks(scores, most), (0, length - end.stop)))
    return torch.cat(rows, dim=2)


def index_loss(scores: Tensor, matches: Tensor, most: int) -> Tensor:
    """KL divergence of the scores' softmax from the mean softmax of matches.

    Both over the keys that the scores choose, a mean over queries; matches are constants.

    Args:
        scores: (B, 1, N, N).
        matches: scores of each head, (B, H, N, N).
        most: keys of a query.
    """
    later = torch.ones_like(scores, dtype=torch.bool).triu(1)
    scores = scores.masked_fill(later, -torch.inf)
    seen = best_blocks(scores.detach(), most)
    with torch.no_grad():
        weights = matches.masked_fill(~seen, -torch.inf).softmax(dim=-1)
        target = weights.mean(dim=1, keepdim=True)
    guess = scores.masked_fill(~seen, -torch.inf).log_softmax(dim=-1).masked_fill(~seen, 0.0)
    loss: Tensor = (target.xlogy(target) - target * guess).sum(dim=-1).mean()
    return loss
