"""Sigmoid attention: weights are independent of each other and not normalised."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from ..base import Attention, CallShape, Geometry
from ..capabilities import Capabilities
from ..checks import at_least, whole
from ..maths.masks import allowed_pairs
from ..maths.tiles import Tiling, scaled, tiled_flops
from ..precision import in_wide_precision
from ..registry import register_attention

_LEAST_BIAS = -100.0
"""Lower ones put every weight below the smallest float32 number."""


@register_attention(
    "sigmoid",
    title="Sigmoid attention",
    source="Ramapuram et al., 2024, arXiv:2409.04431",
    family="exact",
    capabilities=Capabilities(causal=True, cross=True, masks=frozenset({"padding", "dense"})),
)
class Sigmoid(Attention):
    """out_i = sum_j sigmoid(q_i . k_j / sqrt(D) + b) v_j.

    With b = -log N the weights of a query add up to about 1 while scores are small, as those of a
    softmax do. N is the geometry's ``seq_len``, the length that a model is made for, and not the
    number of keys that a query happens to see: the paper has one constant, also under a causal
    mask, and with it a masked key is as good as none and a sequence's outputs do not depend on
    what follows. So early queries of a causal form, which see few keys, get little.

    A query whose keys are all hidden gets zeros. Nothing keeps the sum of weights near 1 once
    scores are large: the output can grow to N times the values, and in float16 it stops at the
    largest finite number. Tiles are recomputed in the backward pass, so memory is linear in N;
    there is no second derivative.

    Hazards:
        - Nothing keeps the sum of weights near 1 once scores are large: outputs can grow to N times
          the values.
        - b comes from geometry.seq_len: a model that was trained at another length needs its own
          ``bias``.

    Differences:
        - The paper tries several biases; -log N, the one that it settles on, is the default.

    Args:
        geometry: the shape to build for.
        bias: b; -log N if None.
        chunk_size: queries and keys of a tile.
    """

    def __init__(
        self, geometry: Geometry, bias: float | None = None, chunk_size: int = 256
    ) -> None:
        super().__init__(geometry)
        if bias is None:
            bias = -math.log(geometry.seq_len)
        self.bias = at_least(self.name, "bias", bias, _LEAST_BIAS)
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
        out: Tensor = _TiledSigmoid.apply(q, k, v, allowed, tiling, self.bias)  # type: ignore[no-untyped-call]
        return out

    def reference(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The N x M weights written out."""
        weights = 1 / (1 + (-q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1]) - self.bias).exp())
        if self.geometry.causal:
            weights = weights.tril()
        return weights @ v

    def flops(self, shape: CallShape) -> int:
        """Scores and the mix of values, for each pair that may be seen."""
        return 2 * shape.num_pairs * (shape.head_dim + shape.value_dim)

    def executed_flops(self, shape: CallShape) -> int:
        """As `flops`, and the rest of the tiles that the diagonal cuts if causal."""
        return tiled_flops(shape, self.chunk_size)


class _TiledSigmoid(Function):
    """(q, k, v, allowed, tiling, bias) -> output; nothing else is kept for the backward pass."""

    @staticmethod
    def forward(
        q: Tensor, k: Tensor, v: Tensor, allowed: Tensor | None, tiling: Tiling, bias: float
    ) -> Tensor:
        q, k, v = scaled(q), k.contiguous(), v.contiguous()
        out = q.new_zeros(*q.shape[:-1], v.shape[-1])
        for rows in tiling.rows():
            for columns in tiling.columns(rows):
                scores = q[:, :, rows] @ k[:, :, columns].transpose(-2, -1)
                hidden = tiling.hidden(rows, columns, allowed, q.device)
                out[:, :, rows] += _weights(scores, bias, hidden) @ v[:, :, columns]
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        q, k, v, allowed, ctx.tiling, ctx.bias = inputs
        ctx.save_for_backward(q, k, v, allowed)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, allowed = ctx.saved_tensors
        tiling: Tiling = ctx.tiling
        q, k, v, grad_out = scaled(q), k.contiguous(), v.contiguous(), grad_out.contiguous()
        grad_q, grad_k, grad_v = (torch.zeros_like(x) for x in (q, k, v))
        for rows in tiling.rows():
            queries, grad_rows = q[:, :, rows], grad_out[:, :, rows]
            for columns in tiling.columns(rows):
                keys, values = k[:, :, columns], v[:, :, columns]
                scores = queries @ keys.transpose(-2, -1)
                hidden = tiling.hidden(rows, columns, allowed, q.device)
                weights = _weights(scores, ctx.bias, hidden)
                grad_v[:, :, columns] += weights.transpose(-2, -1) @ grad_rows
                grad_scores = (grad_rows @ values.transpose(-2, -1)).mul_(weights)
                grad_scores.mul_(weights.neg_().add_(1.0))  # sigmoid' = w (1 - w)
                grad_q[:, :, rows] += grad_scores @ keys
                grad_k[:, :, columns] += grad_scores.transpose(-2, -1) @ queries
        return scaled(grad_q), grad_k, grad_v, None, None, None


def _weights(scores: Tensor, bias: float, hidden: Tensor | None) -> Tensor:
    """The weights of a tile, in the place of its scores; zero for a hidden pair."""
    weights = scores.add_(bias).sigmoid_()
    return weights if hidden is None else weights.masked_fill_(hidden, 0.0)
