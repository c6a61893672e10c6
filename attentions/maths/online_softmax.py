"""The online softmax: exact attention tile by tile; the backward pass recomputes each tile.

Each query keeps the largest score m and the sum l of exponentials that it has met, and rescales
what it has gathered whenever m grows,

    m' = max(m, max_j s_j),  l' = e^(m - m') l + sum_j e^(s_j - m')

after Milakov & Gimelshein, 2018, arXiv:1805.02867, and Rabe & Staats, 2021, arXiv:2112.05682.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from .tiles import Tiling, scaled


def online_softmax(
    q: Tensor, k: Tensor, v: Tensor, allowed: Tensor | None, *, causal: bool, size: int
) -> Tensor:
    """(B, H, N, D), (B, H, M, D), (B, H, M, E) -> (B, H, N, E), in memory linear in N both ways.

    Args:
        q: queries; they are divided by sqrt(D) here.
        k: keys.
        v: values.
        allowed: broadcasts to (B, H, N, M), True keeps; a query that keeps nothing gets zeros.
        causal: hide the keys that come later; N = M.
        size: the most queries and the most keys of a tile.
    """
    tiling = Tiling(query_len=q.shape[-2], key_len=k.shape[-2], size=size, causal=causal)
    out: Tensor = _OnlineSoftmax.apply(q, k, v, allowed, tiling)[0]  # type: ignore[no-untyped-call]
    return out


class _OnlineSoftmax(Function):
    """(q, k, v, allowed, tiling) -> output and, for each query, m and 1 / l.

    These two and not their logarithm, m + log l: where m passes 2^24, l would be rounded away.
    """

    @staticmethod
    def forward(
        q: Tensor, k: Tensor, v: Tensor, allowed: Tensor | None, tiling: Tiling
    ) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = scaled(q), k.contiguous(), v.contiguous()
        out = q.new_empty(*q.shape[:-1], v.shape[-1])
        peaks, inverses = (q.new_empty(*q.shape[:-1], 1) for _ in range(2))
        for rows in tiling.rows():
            queries = q[:, :, rows]
            peak = q.new_full((*queries.shape[:-1], 1), -torch.inf)  # m
            total, gathered = torch.zeros_like(peak), torch.zeros_like(out[:, :, rows])
            for columns in tiling.columns(rows):
                scores = queries @ k[:, :, columns].transpose(-2, -1)
                hidden = tiling.hidden(rows, columns, allowed, q.device)
                if hidden is not None:
                    scores.masked_fill_(hidden, -torch.inf)
                new_peak = torch.maximum(peak, scores.amax(dim=-1, keepdim=True))
                # Where nothing was met yet, 0 takes the place of minus infinity: both
                # exponentials are then zero, and not those of a difference of infinities.
                finite_peak = new_peak.masked_fill(new_peak == -torch.inf, 0.0)
                weights = scores.sub_(finite_peak).exp_()
                rescale = (peak - finite_peak).exp_()
                total = total.mul_(rescale).add_(weights.sum(dim=-1, keepdim=True))
                gathered = gathered.mul_(rescale).add_(weights @ v[:, :, columns])
                peak = new_peak
            unseen = total == 0
            out[:, :, rows] = gathered.div_(total.masked_fill(unseen, 1.0))
            # Plus infinity makes all weights zero when they are computed again.
            peaks[:, :, rows] = peak.masked_fill(unseen, torch.inf)
            inverses[:, :, rows] = total.masked_fill(unseen, 1.0).reciprocal()
        return out, peaks, inverses

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        q, k, v, allowed, ctx.tiling = inputs
        ctx.save_for_backward(q, k, v, allowed, *output)
        ctx.mark_non_differentiable(*output[1:])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, allowed, out, peaks, inverses = ctx.saved_tensors
        tiling: Tiling = ctx.tiling
        q, k, v = scaled(q), k.contiguous(), v.contiguous()
        # Weights are exp(s - m) / l; the division is done once per query and not per pair.
        grad_out = grad_out * inverses
        # sum_j w_ij (g_i . v_j) = g_i . o_i, which the gradient of a softmax takes off.
        mean = (grad_out * out).sum(dim=-1, keepdim=True)
        grad_q, grad_k, grad_v = (torch.zeros_like(x) for x in (q, k, v))
        for rows in tiling.rows():
            queries, grad_rows = q[:, :, rows], grad_out[:, :, rows]
            for columns in tiling.columns(rows):
                keys, values = k[:, :, columns], v[:, :, columns]
                scores = queries @ keys.transpose(-2, -1)
                hidden = tiling.hidden(rows, columns, allowed, q.device)
                if hidden is not None:
                    scores.masked_fill_(hidden, -torch.inf)
                # Above the peak only if a product is rounded otherwise than in `forward`. Large
                # scores lie so far apart that the exponential would then be infinite.
                weights = scores.sub_(peaks[:, :, rows]).clamp_(max=0.0).exp_()
                grad_v[:, :, columns] += weights.transpose(-2, -1) @ grad_rows
                grad_scores = grad_rows @ values.transpose(-2, -1)
                grad_scores = grad_scores.sub_(mean[:, :, rows]).mul_(weights)
                grad_q[:, :, rows] += grad_scores @ keys
                grad_k[:, :, columns] += grad_scores.transpose(-2, -1) @ queries
        return scaled(grad_q), grad_k, grad_v, None, None
