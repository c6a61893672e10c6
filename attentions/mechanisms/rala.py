"""RALA: linear attention whose keys are weighted by how well they match the mean query."""

from __future__ import annotations

import torch
from torch import Tensor

from ..base import Attention, CallShape, Geometry
from ..capabilities import Capabilities
from ..checks import fills_grid, positive
from ..maths.feature_maps import elu_plus_one
from ..maths.kernel_attention import kernel_flops
from ..maths.rotary import reference_rotate, rope_if_it_fits, rotate
from ..precision import in_wide_precision
from ..registry import register_attention


@register_attention(
    "rala",
    title="RALA (rank-augmented linear attention)",
    source="Fan et al., 2024, arXiv:2411.07635",
    family="kernel",
    capabilities=Capabilities(needs_grid=True, position_free=False),
)
class Rala(Attention):
    """elu + 1 features, with keys weighted before they are summed, which raises the sum's rank.

        phi = elu + 1;   alpha_j = N softmax_j(phi(k_j) . mean_i phi(q_i) / sqrt(D))
        out_i = mean_j (R_i phi(q_i)) . (R_j alpha_j phi(k_j)) v_j
                / (mean_j alpha_j phi(q_i) . phi(k_j) + eps)

    R turns pairs of channels by their token's place on the grid, the first half of the channels by
    its row and the second by its column, in the numerator only. The weights alpha depend on all
    queries and all keys, so there is no causal form and no state.

    Hazards:
        - For queries and keys far below 0 the features underflow and eps takes over: the output
          goes to 0.
        - alpha becomes one key's alone where features are large.
        - The numerator is rotated and the denominator is not: weights may be negative and do not
          sum to 1.

    Differences:
        - The gate on the output, which raises its rank, the local encoding of v and the projections
          are in `rala_layer`.

    Args:
        geometry: the shape to build for; head_dim a multiple of 4 with ``rope``.
        rope: whether features are rotated.
        eps: added to the mean weight.
    """

    def __init__(self, geometry: Geometry, rope: bool = True, eps: float = 1e-6) -> None:
        super().__init__(geometry)
        self.rope = rope_if_it_fits(self.name, rope, geometry.head_dim)
        self.eps = positive(self.name, "eps", eps)

    @in_wide_precision
    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(B, H, N, D), (B, H, N, D), (B, H, N, E) -> (B, H, N, E)."""
        if self.rope:
            fills_grid(self.name, q.shape[2], self.geometry.grid)
        phi_q, phi_k = elu_plus_one(q), elu_plus_one(k)
        matches = phi_k @ phi_q.mean(dim=2, keepdim=True).mT * q.shape[-1] ** -0.5
        phi_k = phi_k * matches.softmax(dim=2)  # alpha / N
        normaliser = phi_q @ phi_k.sum(dim=2, keepdim=True).mT + self.eps
        if self.rope:
            phi_q, phi_k = (rotate(x, self.geometry.grid, q.shape[-1]) for x in (phi_q, phi_k))
        out: Tensor = phi_q @ (phi_k.mT @ v) / normaliser
        return out

    def reference(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The N x N weights written out."""
        phi_q, phi_k = (torch.where(x > 0, x + 1, x.clamp(max=0).exp()) for x in (q, k))
        exponents = (
            (phi_k * phi_q.mean(dim=2, keepdim=True)).sum(dim=-1) / q.shape[-1] ** 0.5
        ).exp()
        alpha = q.shape[2] * exponents / exponents.sum(dim=-1, keepdim=True)
        phi_k = alpha[..., None] * phi_k
        normaliser = (phi_q @ phi_k.mT).mean(dim=-1, keepdim=True) + self.eps
        if self.rope:
            turned = (reference_rotate(x, self.geometry.grid, q.shape[-1]) for x in (phi_q, phi_k))
            phi_q, phi_k = turned
        out: Tensor = (phi_q @ phi_k.mT / q.shape[2]) @ v / normaliser
        return out

    def flops(self, shape: CallShape) -> int:
        """Kernel attention with D features, and the match of every key with the mean query."""
        return kernel_flops(shape, shape.head_dim) + 2 * shape.num_keys * shape.head_dim
