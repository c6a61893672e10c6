"""Gated DeltaNet-2: the delta rule with what is erased and what is written set apart."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from ..base import Geometry
from ..capabilities import RECURRENT, Gate
from ..checks import flag
from ..engines.state import StateCore
from ..maths.recurrences.gates import HEAD_RATES, spread
from ..maths.recurrences.transition import Transition
from ..precision import widen
from ..registry import register_attention


@register_attention(
    "gated_deltanet2",
    title="Gated DeltaNet-2",
    source="2026, arXiv:2605.22791",
    family="recurrent",
    capabilities=replace(
        RECURRENT,
        gates={
            "log_decay": Gate("bhnd", high=0, activation="step"),
            "erase": Gate("bhnd", low=0, high=1),
            "write": Gate("bhne", low=0, high=1),
        },
    ),
)
class GatedDeltaNet2(StateCore):
    """`kda` with a share per channel for what a key erases, and one for what a value writes.

        S' = diag(exp(g_t)) S_{t-1}
        S_t = S' + k_t (w_t * v_t - S'^T (b_t * k_t))^T        out_t = S_t^T q_t / sqrt(head_dim)

    ``log_decay`` and ``erase``, (B, H, N, D), are g and b, and ``write``, (B, H, N, E), is w.
    Without them each head has values that are learned per channel: sigmoid(erase_logit) and
    sigmoid(write_logit), starting at 1/2, and -exp(log_rate), as in `kda`. With equal channels
    b = w = beta this is `kda`.

    Hidden tokens neither write to the state nor decay it. A query whose keys are all hidden gets
    zeros.

    Hazards:
        - A step is not symmetric: |1 - sum_d b_d k_d^2| <= 1 bounds its eigenvalues and not its
          norm, so a state can grow for a while even with keys of unit length.
        - With ``normalise_keys=False`` long keys let the state grow without bound.

    Differences:
        - Authors' code takes keys and queries as they come, of unit length from their layer; here
          the core brings keys to unit length.
        - Convolutions, the projections of the gates, norm and output gate are the authors' layer.

    Args:
        geometry: the shape to build for; causal.
        normalise_keys: whether keys are divided by their length, as in `deltanet`.
        scale: factor of the queries; head_dim^(-1/2) if None.
        negative_eigenvalues: whether erase reaches 2, so that a step can flip what a key holds.
    """

    def __init__(
        self,
        geometry: Geometry,
        normalise_keys: bool = True,
        scale: float | None = None,
        negative_eigenvalues: bool = False,
    ) -> None:
        super().__init__(geometry)
        heads, width = geometry.num_heads, geometry.head_dim
        self.normalise_keys = flag(self.name, "normalise_keys", normalise_keys)
        self.most = 2.0 if flag(self.name, "negative_eigenvalues", negative_eigenvalues) else 1.0
        self.gates["erase"] = Gate("bhnd", low=0, high=self.most)
        self.scale = self.checked_scale(scale)
        self.erase_logit = nn.Parameter(torch.zeros(heads, width))
        self.write_logit = nn.Parameter(torch.zeros(heads, geometry.value_dim))
        self.log_rate = nn.Parameter(spread(HEAD_RATES, heads).log()[:, None].repeat(1, width))

    def learned_gates(self, k: Tensor) -> dict[str, Tensor]:
        """One decay and one share per channel."""
        return {
            "log_decay": -widen(self.log_rate).exp(),
            "erase": self.most * widen(self.erase_logit).sigmoid(),
            "write": widen(self.write_logit).sigmoid(),
        }

    def transition(
        self, k: Tensor, v: Tensor, g: Tensor, erase: Tensor, write: Tensor
    ) -> Transition:
        """Decay, erase, write."""
        return Transition(k, write * v, g, erase=erase * k)
