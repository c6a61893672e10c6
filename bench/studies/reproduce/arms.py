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
    register_attention,
)
from attentions.mechanisms.mamba2_ssd import Mamba2Ssd

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
        gates={"beta": Gate("bhn", low=0, high=1), "log_decay": Gate("bhn", high=0)},
        position_free=False,
    ),
)
class AdditiveDecay(Mamba2Ssd):
    """S_t = exp(g_t) S_{t-1} + beta_t k_t v_t^T, with keys of length 1.

    Gates, normalised keys and scale are those of `gated_deltanet`; only the term is missing that
    takes the key's old value out of the state.
    """

    def forward(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        beta: Tensor | None = None,
        log_decay: Tensor | None = None,
        key_mask: Tensor | None = None,
    ) -> Tensor:
        """(B, H, N, D), (B, H, N, D), (B, H, N, E) -> (B, H, N, E)."""
        written = v if beta is None else beta.unsqueeze(-1) * v
        scaled = q * self.geometry.head_dim**-0.5
        unit = functional.normalize(k, dim=-1)
        return super().forward(scaled, unit, written, log_decay=log_decay, key_mask=key_mask)

    def reference(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        beta: Tensor | None = None,
        log_decay: Tensor | None = None,
    ) -> Tensor:
        """The dual form: N x N scores under the mask L of decays."""
        written = v if beta is None else beta.unsqueeze(-1) * v
        scaled = q * self.geometry.head_dim**-0.5
        return super().reference(
            scaled, functional.normalize(k, dim=-1), written, log_decay=log_decay
        )
