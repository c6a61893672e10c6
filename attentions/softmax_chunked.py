"""Softmax attention by the online softmax, in plain torch: memory linear in N, both ways."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from ._cache import CachedSoftmax
from ._checks import equal_lengths, whole
from ._masks import allowed_pairs
from ._precision import in_wide_precision
from ._tiles import Tiling, scaled, tiled_flops
from .base import CallShape, Geometry
from .capabilities import Capabilities
from .registry import register_attention
from .softmax import decoded_pairs_flops, explicit_softmax


@register_attention(
    "softmax_chunked",
    title="Softmax (online, in plain torch)",
    source="Milakov & Gimelshein, 2018, arXiv:1805.02867; Rabe & Staats, 2021, arXiv:2112.05682",
    family="exact",
    capabilities=Capabilities(
        causal=True,
        cross=True,
        recurrent=True,
        masks=frozenset({"padding", "dense"}),
        exact=True,
    ),
)
class SoftmaxChunked(CachedSoftmax):
    """softmax(q k^T / sqrt(D)) v, a chunk of queries and a chunk of keys at a time.

    What a fused kernel does, without one: each query keeps the largest score m and the sum l of
    exponentials that it has met, and rescales what it has gathered whenever m grows,

        m' = max(m, max_j s_j),  l' = e^(m - m') l + sum_j e^(s_j - m')

    The backward pass keeps one logarithm per query and computes the weights again; it has no
    derivative of its own. A query whose keys are all hidden gets zeros. The state of ``step`` is a
    cache of keys and values for ``seq_len`` tokens.

    Hazards:
        - Time grows with N x M, memory with N. There is no second derivative.

    Differences:
        - None known: the same function as `softmax`.

    Args:
        geometry: the shape to build for.
        chunk_size: queries and keys of a tile. On a processor 128 to 512 take equally long: with
            less there are too many small products, with more a tile leaves the cache.
    """

    def __init__(self, geometry: Geometry, chunk_size: int = 256) -> None:
        super().__init__(geometry)
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
        if causal:
            equal_lengths(self.name, q, k, "the causal form")
        allowed = allowed_pairs(self.name, q, k, causal=False, key_mask=key_mask, mask=mask)
        return self._in_tiles(q, k, v, allowed, causal=causal)

    @in_wide_precision
    def _look_back(self, q: Tensor, k: Tensor, v: Tensor, *, allowed: Tensor | None) -> Tensor:
        return self._in_tiles(q, k, v, allowed, causal=False)

    def _in_tiles(
        self, q: Tensor, k: Tensor, v: Tensor, allowed: Tensor | None, *, causal: bool
    ) -> Tensor:
        tiling = Tiling(
            query_len=q.shape[-2], key_len=k.shape[-2], size=self.chunk_size, causal=causal
        )
        out: Tensor = _OnlineSoftmax.apply(q, k, v, allowed, tiling)[0]  # type: ignore[no-untyped-call]
        return out

    def reference(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Exponentials over their sums."""
        return explicit_softmax(q, k, v, causal=self.geometry.causal)

    def flops(self, shape: CallShape) -> int:
        """Scores and the mix of values, for each pair that may be seen."""
        return 2 * shape.num_pairs * (shape.head_dim + shape.value_dim)

    def executed_flops(self, shape: CallShape) -> int:
        """As `flops`, and the rest of the tiles that the diagonal cuts if causal."""
        return tiled_flops(shape, self.chunk_size)

    def decode_flops(self, shape: CallShape) -> int:
        """One query and all keys."""
        return decoded_pairs_flops(shape)

    def extra_elements(self, shape: CallShape, *, backward: bool) -> int:
        """A tile or two, and scaled queries; inputs in float32, if they were not."""
        tile = min(self.chunk_size, shape.query_len) * min(self.chunk_size, shape.key_len)
        tiles = (2 if backward else 1) * shape.batch_size * shape.num_heads * tile
        inputs = shape.num_tokens * shape.head_dim + shape.num_keys * (
            shape.head_dim + shape.value_dim
        )
        return tiles + inputs


class _OnlineSoftmax(Function):
    """(q, k, v, allowed, tiling) -> output and, for each query, log sum_j exp(s_ij)."""

    @staticmethod
    def forward(
        q: Tensor, k: Tensor, v: Tensor, allowed: Tensor | None, tiling: Tiling
    ) -> tuple[Tensor, Tensor]:
        q, k, v = scaled(q), k.contiguous(), v.contiguous()
        out = q.new_empty(*q.shape[:-1], v.shape[-1])
        log_sum = q.new_empty(*q.shape[:-1], 1)
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
            log_sum[:, :, rows] = (peak + total.log()).masked_fill(unseen, torch.inf)
        return out, log_sum

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        q, k, v, allowed, ctx.tiling = inputs
        ctx.save_for_backward(q, k, v, allowed, *output)
        ctx.mark_non_differentiable(output[1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, allowed, out, log_sum = ctx.saved_tensors
        tiling: Tiling = ctx.tiling
        # sum_j w_ij (g_i . v_j) = g_i . o_i, which the gradient of a softmax takes off.
        mean = (grad_out * out).sum(dim=-1, keepdim=True)
        q, k, v, grad_out = scaled(q), k.contiguous(), v.contiguous(), grad_out.contiguous()
        grad_q, grad_k, grad_v = (torch.zeros_like(x) for x in (q, k, v))
        for rows in tiling.rows():
            queries, grad_rows = q[:, :, rows], grad_out[:, :, rows]
            for columns in tiling.columns(rows):
                keys, values = k[:, :, columns], v[:, :, columns]
                scores = queries @ keys.transpose(-2, -1)
                hidden = tiling.hidden(rows, columns, allowed, q.device)
                if hidden is not None:
                    scores.masked_fill_(hidden, -torch.inf)
                weights = scores.sub_(log_sum[:, :, rows]).exp_()
                grad_v[:, :, columns] += weights.transpose(-2, -1) @ grad_rows
                grad_scores = grad_rows @ values.transpose(-2, -1)
                grad_scores = grad_scores.sub_(mean[:, :, rows]).mul_(weights)
                grad_q[:, :, rows] += grad_scores @ keys
                grad_k[:, :, columns] += grad_scores.transpose(-2, -1) @ queries
        return scaled(grad_q), grad_k, grad_v, None, None
