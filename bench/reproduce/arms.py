"""Mechanisms that only an ablation needs; a plug-in of workers, not part of the library."""

from __future__ import annotations

from torch import Tensor

from attentions import Attention, CallShape, Capabilities, Geometry, register_attention

_EPS = 1e-6


@register_attention(
    "relu_power",
    title="ReLU with a constant power",
    source="the first row of an ablation of NaLaFormer, arXiv:2506.21137v1, Table 5",
    capabilities=Capabilities(cross=True),
)
class ReluPower(Attention):
    """Linear attention with phi(q) = relu(q / ||q||)^power and phi(k) = relu(k)^power."""

    def __init__(self, geometry: Geometry, power: float = 3.0) -> None:
        super().__init__(geometry)
        self.power = power

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(B, H, N, D), (B, H, M, D), (B, H, M, E) -> (B, H, N, E)."""
        phi_q = (q / (q.norm(dim=-1, keepdim=True) + _EPS)).clamp(min=0) ** self.power
        phi_k = k.clamp(min=0) ** self.power
        context, total = phi_k.mT @ v / k.shape[-2], phi_k.mean(dim=-2, keepdim=True)
        out: Tensor = phi_q @ context / (phi_q @ total.mT + _EPS)
        return out

    def flops(self, shape: CallShape) -> int:
        """Two products of features and values, and a normaliser."""
        per_token = shape.head_dim * (2 * shape.value_dim + 1)
        return 2 * shape.num_tokens * per_token
