"""InLine: linear attention that subtracts its mean instead of dividing by it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..base import Attention, CallShape
from ..capabilities import Capabilities
from ..maths.pairs.masks import count_keys
from ..precision import in_wide_precision
from ..registry import register_attention


@register_attention(
    "inline",
    title="InLine (injective linear attention)",
    source="Han et al., 2024, arXiv:2412.06590",
    family="kernel",
    capabilities=Capabilities(
        cross=True,
        masks=frozenset({"padding"}),
        exports=frozenset({"bidirectional"}),
    ),
)
class InLine(Attention):
    """Weights of q . k / sqrt(D) shifted, not scaled, so that they sum to 1.

        w_ij  = s_ij / M - mean_j s_ij / M + 1 / M,  s_ij = q_i . k_j / sqrt(D)
        out_i = sum_j w_ij v_j = mean v + (q_i / sqrt(D)) (mean_j k_j v_j^T - mean k mean v^T)

    Division makes collinear queries alike; subtraction keeps them apart (the paper's injectivity).
    The feature map is the identity, as in the authors' code. Weights may be negative. The context
    is the covariance of keys and values, one D x E matrix.

    A query whose keys are all hidden gets zeros.

    Hazards:
        - Weights may be negative, so an output may lie outside of the range of the values.
        - Weights grow with queries and keys, nothing bounds them: outputs beyond float16's range
          stop at its largest number.

    Differences:
        - The paper leaves the feature map open; the authors' code has the identity, and so do we.

    Args:
        geometry: the shape to build for.
    """

    @in_wide_precision
    def forward(self, q: Tensor, k: Tensor, v: Tensor, *, key_mask: Tensor | None = None) -> Tensor:
        """(B, H, N, D), (B, H, M, D), (B, H, M, E) -> (B, H, N, E)."""
        num_keys = count_keys(k, key_mask)
        mean_k, mean_v = (x.sum(dim=-2, keepdim=True) / num_keys for x in (k, v))
        covariance = k.mT @ v / num_keys - mean_k.mT * mean_v  # (B, H, D, E)
        # The sum mean + product, in one pass over the output.
        heads = (x.flatten(0, 1) for x in (mean_v, q, covariance / math.sqrt(q.shape[-1])))
        return torch.unflatten(torch.baddbmm(*heads), 0, q.shape[:2])

    def reference(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The N x M weights written out."""
        num_keys = k.shape[-2]
        scores = torch.einsum("bhnd,bhmd->bhnm", q, k) / math.sqrt(q.shape[-1]) / num_keys
        weights = scores - scores.sum(dim=-1, keepdim=True) / num_keys + 1 / num_keys
        return weights @ v

    def flops(self, shape: CallShape) -> int:
        """Keys meet values, and queries read."""
        return 2 * shape.head_dim * shape.value_dim * (shape.num_keys + shape.num_tokens)
