"""Mechanisms that only an ablation needs; a plug-in of workers, not part of the library."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from attentions import (
    Attention,
    CallShape,
    Capabilities,
    Gate,
    Geometry,
    Transition,
    register_attention,
)
from attentions.mechanisms.head_decay import Mamba2Ssd

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


@register_attention(
    "gated_deltanet_additive",
    title="Gated DeltaNet without the erased value",
    source="the recurrence of Yang et al., 2025, arXiv:2412.06464, with the delta rule left out",
    capabilities=Capabilities(
        bidirectional=False,
        causal=True,
        recurrent=True,
        gates={"beta": Gate("bhn", low=0, high=1), "log_decay": Gate("bhn", high=0)},
        position_free=False,
    ),
)
class AdditiveDecay(Mamba2Ssd):
    """S_t = exp(g_t) S_{t-1} + beta_t k_t v_t^T, with keys of length 1.

    Gates, normalised keys and scale are those of `gated_deltanet`; only the term is missing that
    takes the key's old value out of the state.
    """

    def __init__(self, geometry: Geometry) -> None:
        super().__init__(geometry)
        self.scale = self.checked_scale(None)

    def learned_gates(self, k: Tensor) -> dict[str, Tensor]:
        """Values are written whole."""
        return super().learned_gates(k) | {"beta": k.new_ones(self.geometry.num_heads)}

    def prepare(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        """Keys of length 1."""
        return q, functional.normalize(k, dim=-1)

    def transition(self, k: Tensor, v: Tensor, *gates: Tensor) -> Transition:
        """Decay, and then write a share of the value."""
        beta, log_decay = gates
        return Transition(k, beta * v, log_decay)
