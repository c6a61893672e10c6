"""Softmax attention to the keys with the largest scores."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from ..base import Attention, CallShape, Geometry
from ..capabilities import Capabilities
from ..checks import whole
from ..maths.masks import allowed_pairs
from ..maths.tiles import Tiling, scaled
from ..precision import in_wide_precision
from ..registry import register_attention


@register_attention(
    "topk",
    title="Top-k attention",
    source="Zhao et al., 2019, arXiv:1912.11637; Gupta et al., 2021, arXiv:2106.06899",
    family="sparse",
    capabilities=Capabilities(causal=True, cross=True, masks=frozenset({"padding", "dense"})),
)
class TopK(Attention):
    """Softmax over the k largest of a query's scores q . k / sqrt(D); all other weights are zero.

    Exact: every visible key is scored, so time grows with N x M. Scores are taken for some queries
    at a time and forgotten, so memory grows with N. They are float64, so that which keys are the
    largest does not depend on the order of a sum; where scores are equal, any of them may
    be among the k. The choice itself has no gradient, and the backward pass no derivative.

    A query that sees fewer than k keys attends to all of them; one that sees none gets zeros.

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
        self.chunk_size = whole(self.name, "chunk_size", chunk_size, 1)

    @in_wide_precision
    def forward(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        key_mask: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """(B, H, N, D), (B, H, M, D), (B, H, M, E) -> (B, H, N, E)."""
        causal = self.geometry.causal
        allowed = allowed_pairs(self.name, q, k, causal=False, key_mask=key_mask, mask=mask)
        tiling = Tiling(
            query_len=q.shape[-2], key_len=k.shape[-2], size=self.chunk_size, causal=causal
        )
        with torch.no_grad():
            chosen, seen = self._choose(q, k, allowed, tiling)
        out: Tensor = _AttendToChosen.apply(q, k, v, chosen, seen, tiling)  # type: ignore[no-untyped-call]
        return out

    def _choose(
        self, q: Tensor, k: Tensor, allowed: Tensor | None, tiling: Tiling
    ) -> tuple[Tensor, Tensor]:
        """The places of the largest scores, and whether each is one of a visible key.

        Both (B, H, N, k), or fewer than k if there are fewer keys.
        """
        num_chosen = min(self.k, tiling.key_len)
        keys = k.double().transpose(-2, -1)
        chosen = torch.zeros(*q.shape[:3], num_chosen, dtype=torch.long, device=q.device)
        seen = torch.zeros_like(chosen, dtype=torch.bool)
        for rows in tiling.rows():
            columns = slice(0, rows.stop if tiling.causal else tiling.key_len)
            scores = q[:, :, rows].double() @ keys[..., columns]
            hidden = tiling.hidden(rows, columns, allowed, q.device)
            if hidden is not None:
                scores.masked_fill_(hidden, -torch.inf)
            there = min(num_chosen, columns.stop)
            values, places = scores.topk(there, dim=-1, sorted=False)
            chosen[:, :, rows, :there] = places
            seen[:, :, rows, :there] = values > -torch.inf
        return chosen, seen

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
        tiling = Tiling(
            query_len=shape.query_len, key_len=shape.key_len, size=self.chunk_size, causal=False
        )
        scored: int = sum(
            (rows.stop - rows.start) * (rows.stop if shape.causal else shape.key_len)
            for rows in tiling.rows()
        )
        chosen = shape.query_len * min(self.k, shape.key_len)
        per_head = scored * shape.head_dim + chosen * (shape.head_dim + shape.value_dim)
        return 2 * shape.batch_size * shape.num_heads * per_head


class _AttendToChosen(Function):
    """(q, k, v, chosen, seen, tiling) -> output; gradients gather keys and values again."""

    @staticmethod
    def forward(
        q: Tensor, k: Tensor, v: Tensor, chosen: Tensor, seen: Tensor, tiling: Tiling
    ) -> Tensor:
        q = scaled(q)
        outputs = []
        for rows in tiling.rows():
            places = _flat(chosen[:, :, rows], tiling.key_len)
            keys, values = _gather(k, places), _gather(v, places)  # (B, H, n, k, D)
            weights = _weights(q[:, :, rows], keys, seen[:, :, rows])
            outputs.append((weights @ values).squeeze(-2))
        return torch.cat(outputs, dim=2)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        *tensors, ctx.tiling = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, chosen, seen = ctx.saved_tensors
        q = scaled(q)
        grad_q = torch.zeros_like(q)
        grad_k, grad_v = (torch.zeros_like(x).flatten(0, 2) for x in (k, v))  # (B * H * M, D)
        for rows in ctx.tiling.rows():
            places = _flat(chosen[:, :, rows], ctx.tiling.key_len)
            keys, values = _gather(k, places), _gather(v, places)
            weights = _weights(q[:, :, rows], keys, seen[:, :, rows])  # (B, H, n, 1, k)
            grad_rows = grad_out[:, :, rows, None]  # (B, H, n, 1, E)
            grad_weights = grad_rows @ values.transpose(-2, -1)
            mean = (grad_weights * weights).sum(dim=-1, keepdim=True)
            grad_scores = (grad_weights - mean) * weights
            grad_q[:, :, rows] = (grad_scores @ keys).squeeze(-2)
            to_keys = grad_scores.transpose(-2, -1) * q[:, :, rows, None]  # (B, H, n, k, D)
            to_values = weights.transpose(-2, -1) * grad_rows
            grad_k.index_add_(0, places.flatten(), to_keys.flatten(0, -2))
            grad_v.index_add_(0, places.flatten(), to_values.flatten(0, -2))
        return scaled(grad_q), grad_k.view_as(k), grad_v.view_as(v), None, None, None


def _flat(chosen: Tensor, key_len: int) -> Tensor:
    """Places among the keys of all batch rows and heads, from places among one head's."""
    batch_size, num_heads = chosen.shape[:2]
    head = torch.arange(batch_size * num_heads, device=chosen.device)
    return chosen + (head * key_len).view(batch_size, num_heads, 1, 1)


def _gather(x: Tensor, places: Tensor) -> Tensor:
    """(B, H, M, D), (B, H, n, k) -> (B, H, n, k, D)."""
    rows = x.flatten(0, 2).index_select(0, places.flatten())
    return rows.view(*places.shape, x.shape[-1])


def _weights(q: Tensor, keys: Tensor, seen: Tensor) -> Tensor:
    """(B, H, n, D), (B, H, n, k, D), (B, H, n, k) -> (B, H, n, 1, k)."""
    scores = q.unsqueeze(-2) @ keys.transpose(-2, -1)
    hidden = ~seen.unsqueeze(-2)
    # The lowest finite number, not minus infinity: a query may see none at all.
    lowest = torch.finfo(scores.dtype).min
    return scores.masked_fill(hidden, lowest).softmax(dim=-1).masked_fill(hidden, 0.0)
