"""Softmax attention with an explicit N x M matrix of weights, which fused kernels avoid."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..base import CallShape
from ..capabilities import Capabilities
from ..maths.pairs.cache import CachedSoftmax
from ..maths.pairs.masks import allowed_pairs
from ..precision import in_wide_precision
from ..registry import register_attention
from .softmax import decoded_pairs_flops, explicit_softmax


@register_attention(
    "softmax_explicit",
    title="Softmax (written out)",
    source="Vaswani et al., 2017, arXiv:1706.03762, Eq. 1",
    family="exact",
    capabilities=Capabilities(
        causal=True,
        cross=True,
        recurrent=True,
        masks=frozenset({"padding", "dense"}),
        exact=True,
        exports=frozenset({"bidirectional", "causal"}),
    ),
)
class SoftmaxExplicit(CachedSoftmax):
    """softmax(q k^T / sqrt(D)) v, the N x M weights included.

    Half inputs are computed in float32, products included: scores of float16 entries of 1e3
    overflow, and in bfloat16 a score of hundreds is off by ones. So the N x M matrices take four
    bytes per number whatever the inputs' dtype. A query whose keys are all hidden gets zeros. The
    state of ``step`` is a cache of keys and values for ``seq_len`` tokens.

    Hazards:
        - Time and memory grow with N x M.

    Differences:
        - None known: the same function as `softmax`, written as in the paper.
    """

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
        allowed = allowed_pairs(self.name, q, k, causal=causal, key_mask=key_mask, mask=mask)
        return self._attend(q, k, v, allowed)

    @in_wide_precision
    def _attend(self, q: Tensor, k: Tensor, v: Tensor, allowed: Tensor | None) -> Tensor:
        scores = (q / math.sqrt(q.shape[-1])) @ k.transpose(-2, -1)
        if allowed is None:
            return scores.softmax(dim=-1) @ v
        blind = ~allowed.any(dim=-1, keepdim=True)
        weights = scores.masked_fill(~(allowed | blind), -torch.inf).softmax(dim=-1)
        return (weights @ v).masked_fill(blind, 0.0)

    def reference(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Exponentials over their sums."""
        return explicit_softmax(q, k, v, causal=self.geometry.causal)

    def flops(self, shape: CallShape) -> int:
        """Scores and the mix of values, for each pair that may be seen."""
        return 2 * shape.num_pairs * (shape.head_dim + shape.value_dim)

    def executed_flops(self, shape: CallShape) -> int:
        """All pairs, the hidden ones included."""
        pairs = shape.num_tokens * shape.key_len
        return 2 * pairs * (shape.head_dim + shape.value_dim)

    def decode_flops(self, shape: CallShape) -> int:
        """One query and all keys."""
        return decoded_pairs_flops(shape)
