"""Taylor attention (Based): softmax's exponential, expanded to second order."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from ..base import CallShape, Geometry
from ..capabilities import Capabilities
from ..checks import one_of, positive
from ..engines.kernel import KernelCore
from ..maths.kernel_attention import divide
from ..precision import in_wide_precision
from ..registry import register_attention


@register_attention(
    "taylor",
    title="Taylor linear attention (Based)",
    source="Arora et al., 2024, arXiv:2402.18668",
    family="kernel",
    capabilities=Capabilities(
        causal=True, cross=True, recurrent=True, masks=frozenset({"padding"})
    ),
)
class Taylor(KernelCore):
    """exp(s) of the score s = q . k / sqrt(D) becomes 1 + s + s^2 / 2, which features can give.

        phi(x) = [1; y; y_i^2 / sqrt(2); y_i y_j for i < j],  y = x / D^(1/4)
        phi(q) . phi(k) = 1 + s + s^2 / 2  >=  1/2
        out_i = sum_j phi(q_i) . phi(k_j) v_j / (sum_j phi(q_i) . phi(k_j) + eps)

    There are 1 + D + D (D + 1) / 2 features: 153 for a head_dim of 16, which is what the paper
    projects queries and keys to, but 2145 for one of 64. The authors' code has 1 + D + D^2, each
    product of two channels twice. Features are made a chunk of tokens at a time, and causal pairs
    within a chunk are scored without them.

    A query whose keys are all hidden gets zeros.

    Hazards:
        - The expansion is good near a score of 0 only: below a score of -1 the weight grows again.
        - There are more than D^2 / 2 features: beyond head_dim 16 the state is large.
        - Squared scores overflow float32 at norms of about 1e8.

    Differences:
        - The authors' code has 1 + D + D^2 features, each product of two channels twice;
          flash-linear-attention and ours have each once. The function is the same.
        - eps is 1e-12 in the authors' code and 1e-6 in flash-linear-attention: ``eps``, the
          latter's by default.

    Args:
        geometry: the shape to build for.
        form: ``"features"``, linear in N; or ``"explicit"``, the same function from N x M scores,
            which is less work while N is below the number of features.
        eps: added to the sum of weights; 1e-6 as in flash-linear-attention, 1e-12 in the authors'.
    """

    def __init__(self, geometry: Geometry, form: str = "features", eps: float = 1e-6) -> None:
        super().__init__(geometry)
        self.form = one_of(self.name, "form", form, ("features", "explicit"))
        self.shares_heads = form == "features"
        self.eps = positive(self.name, "eps", eps)
        self.feature_dim = 1 + geometry.head_dim + geometry.head_dim * (geometry.head_dim + 1) // 2

    def phi_q(self, q: Tensor) -> Tensor:
        """The products of a channel with later ones are one slice; and the same for keys."""
        y = q / math.sqrt(math.sqrt(q.shape[-1]))
        mixed = [y[..., i : i + 1] * y[..., i + 1 :] for i in range(y.shape[-1] - 1)]
        ones, squares = torch.ones_like(y[..., :1]), y.square() * math.sqrt(0.5)
        return torch.cat((ones, y, squares, *mixed), dim=-1)

    def pairs(self, q: Tensor, k: Tensor) -> Tensor:
        """1 + s + s^2 / 2."""
        s = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
        return 1 + s * (1 + 0.5 * s)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, *, key_mask: Tensor | None = None) -> Tensor:
        """(B, H, N, D), (B, H, M, D), (B, H, M, E) -> (B, H, N, E)."""
        if self.form == "explicit":
            return self._explicit(q, k, v, key_mask=key_mask)
        return super().forward(q, k, v, key_mask=key_mask)

    @in_wide_precision
    def _explicit(
        self, q: Tensor, k: Tensor, v: Tensor, *, key_mask: Tensor | None = None
    ) -> Tensor:
        weights = self.pairs(q, k)
        if key_mask is not None:
            weights = weights.masked_fill(~key_mask[:, None, None, :], 0.0)
        weights = weights.tril() if self.geometry.causal else weights
        return divide(weights @ v, weights.sum(dim=-1, keepdim=True) + self.eps)

    def reference(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The N x M expansions written out."""
        s = torch.einsum("bhnd,bhmd->bhnm", q, k) / math.sqrt(q.shape[-1])
        weights = 1 + s + s.pow(2) / 2
        if self.geometry.causal:
            weights = weights.tril()
        return weights @ v / (weights.sum(dim=-1, keepdim=True) + self.eps)

    def flops(self, shape: CallShape) -> int:
        """Kernel attention with F features, or scores and the mix of values, pair by pair."""
        if self.form == "features":
            return super().flops(shape)
        return 2 * shape.num_pairs * (shape.head_dim + shape.value_dim)

    def executed_flops(self, shape: CallShape) -> int:
        """Causal, all pairs of the explicit form, or features and the pairs within each chunk."""
        if self.form == "features":
            return super().executed_flops(shape)
        return 2 * (shape.head_dim + shape.value_dim) * shape.num_tokens * shape.key_len

    def decode_flops(self, shape: CallShape) -> int:
        """Those of features: a step goes by them in either form."""
        return super().flops(replace(shape, query_len=1, key_len=1, causal=False))
