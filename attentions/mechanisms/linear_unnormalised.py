"""Linear attention without a normaliser: the common ancestor of the gated and delta-rule ones."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .._by_heads import by_heads
from .._engine_threads import alone_if_few
from .._saturation import in_wide_precision_within_range, within_range
from ..base import Attention, CallShape
from ..capabilities import Capabilities
from ..checks import equal_lengths
from ..maths.causal_sums import causal_sums, causal_sums_flops
from ..maths.kernel_attention import weighted_values
from ..maths.masks import hide_keys
from ..precision import wide_dtype, widen, without_autocast
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

    @in_wide_precision_within_range
    def forward(self, q: Tensor, k: Tensor, v: Tensor, *, key_mask: Tensor | None = None) -> Tensor:
        """(B, H, N, D), (B, H, M, D), (B, H, M, E) -> (B, H, N, E)."""
        k = hide_keys(self.name, k, key_mask)
        if not self.geometry.causal:
            with alone_if_few(q, k, v):
                return weighted_values(self._scaled(q), k, v)
        equal_lengths(self.name, q, k, "the causal form")
        return by_heads(_outputs, self._scaled(q), k, v, num_features=q.shape[-1])

    @staticmethod
    def _scaled(q: Tensor) -> Tensor:
        return q / math.sqrt(q.shape[-1])

    def init_state(self, batch_size: int, *, dtype: torch.dtype, device: torch.device) -> Tensor:
        """S of zeros, (B, H, D, E); float32 for half inputs."""
        g = self.geometry
        sizes = (batch_size, g.num_heads, g.head_dim, g.value_dim)
        return torch.zeros(sizes, dtype=wide_dtype(dtype), device=device)

    def step(self, q: Tensor, k: Tensor, v: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """The next T tokens: (B, H, T, D), (B, H, T, D), (B, H, T, E), state."""
        with without_autocast(q.device.type):
            out, state = causal_sums(self._scaled(widen(q)), widen(k), widen(v), state)
        return within_range(out, q.dtype), state

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


def _outputs(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return causal_sums(q, k, v)[0]
