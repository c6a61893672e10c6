"""Linear attention without a normaliser: what the gated and delta-rule mechanisms build on."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..base import Attention, CallShape
from ..capabilities import Capabilities
from ..maths.causal_sums import causal_sums, causal_sums_flops
from ..maths.kernel_attention import weighted_values
from ..maths.masks import hide_keys
from ..precision import in_wide_precision, step_in_wide_precision, wide_dtype
from ..registry import register_attention


@register_attention(
    "linear_unnormalised",
    title="Linear attention (unnormalised)",
    source="Katharopoulos et al., 2020, arXiv:2006.16236, without features and normaliser",
    family="kernel",
    capabilities=Capabilities(
        causal=True,
        cross=True,
        recurrent=True,
        masks=frozenset({"padding"}),
        exports=frozenset({"bidirectional"}),
    ),
)
class LinearUnnormalised(Attention):
    """S_t = S_{t-1} + k_t v_t^T,  out_t = S_t^T q_t / sqrt(D): no feature map and no denominator.

    The weight of a pair is q . k / sqrt(D), of either sign, and the weights of a query do not sum
    to 1: outputs grow with the number of keys, and models put a norm behind it. The 1 / sqrt(D) is
    that of flash-linear-attention, whose name for it is ``normalize=False``.

    A query whose keys are all hidden gets zeros.

    Hazards:
        - Outputs grow with the number of keys; one beyond float16's range stops at its largest
          number.

    Differences:
        - The 1/sqrt(D) is flash-linear-attention's; the paper, which always normalises, has none.
    """

    @in_wide_precision
    def forward(self, q: Tensor, k: Tensor, v: Tensor, *, key_mask: Tensor | None = None) -> Tensor:
        """(B, H, N, D), (B, H, M, D), (B, H, M, E) -> (B, H, N, E)."""
        k = hide_keys(self.name, k, key_mask)
        q = q / math.sqrt(q.shape[-1])
        if self.geometry.causal:
            return causal_sums(q, k, v)[0]
        return weighted_values(q, k, v)

    def init_state(self, batch_size: int, *, dtype: torch.dtype, device: torch.device) -> Tensor:
        """S of zeros, (B, H, D, E); float32 for half inputs."""
        g = self.geometry
        sizes = (batch_size, g.num_heads, g.head_dim, g.value_dim)
        return torch.zeros(sizes, dtype=wide_dtype(dtype), device=device)

    @step_in_wide_precision
    def step(self, q: Tensor, k: Tensor, v: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """The next T tokens: (B, H, T, D), (B, H, T, D), (B, H, T, E), state."""
        return causal_sums(q / math.sqrt(q.shape[-1]), k, v, state)

    def reference(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The N x M weights written out."""
        weights = torch.einsum("bhnd,bhmd->bhnm", q, k) / math.sqrt(q.shape[-1])
        if self.geometry.causal:
            weights = weights.tril()
        return torch.einsum("bhnm,bhme->bhne", weights, v)

    def flops(self, shape: CallShape) -> int:
        """Keys meet values, and queries read; as many for the recurrence, token by token."""
        return 2 * shape.head_dim * shape.value_dim * (shape.num_keys + shape.num_tokens)

    def executed_flops(self, shape: CallShape) -> int:
        """The causal form also writes out the pairs within a chunk."""
        if shape.causal:
            return causal_sums_flops(shape, shape.head_dim, shape.value_dim)
        return self.flops(shape)
