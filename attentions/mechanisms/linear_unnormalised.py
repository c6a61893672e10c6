"""Linear attention without a normaliser: what the gated and delta-rule mechanisms build on."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..capabilities import Capabilities
from ..engines.kernel import KernelCore
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
class LinearUnnormalised(KernelCore):
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

    divides = False

    def phi_q(self, q: Tensor) -> Tensor:
        """Q / sqrt(D)."""
        return q / math.sqrt(q.shape[-1])

    def phi_k(self, k: Tensor) -> Tensor:
        """K itself."""
        return k

    def reference(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The N x M weights written out."""
        weights = torch.einsum("bhnd,bhmd->bhnm", q, k) / math.sqrt(q.shape[-1])
        if self.geometry.causal:
            weights = weights.tril()
        return torch.einsum("bhnm,bhme->bhne", weights, v)
