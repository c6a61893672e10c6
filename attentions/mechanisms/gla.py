"""Gated linear attention: a decay per token and key channel."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..base import Geometry
from ..capabilities import RECURRENT, Gate
from ..checks import positive
from ..engines.state import StateCore
from ..maths.recurrences.transition import Transition
from ..precision import widen
from ..registry import register_attention


@register_attention(
    "gla",
    title="GLA (gated linear attention)",
    source="Yang et al., 2024, arXiv:2312.06635",
    family="recurrent",
    capabilities=replace(
        RECURRENT, gates={"log_decay": Gate("bhnd", high=0, activation="logsigmoid")}
    ),
)
class Gla(StateCore):
    """S_t = diag(exp(g_t)) S_{t-1} + k_t v_t^T and out_t = S_t^T q_t / sqrt(head_dim).

    ``log_decay``, (B, H, N, D), is g_t, the logarithm of the paper's alpha_t. Without it each key
    channel of a head has one decay that is learned, g = log sigmoid(decay_logit) / temperature. It
    starts at decay_logit = 0, where the projection that computes it in `gla_layer` starts on
    average.

    Hidden tokens neither write to the state nor decay it, as if they were removed. A query whose
    keys are all hidden gets zeros.

    Hazards:
        - A chunked form that divides by the decay of a chunk's start overflows; here only decays
          from a key to a later query are formed, which are at most 1.

    Differences:
        - The paper's recurrence has no 1/sqrt(head_dim), the authors' code has: ``scale=1`` leaves
          it out.

    Args:
        geometry: the shape to build for; causal.
        temperature: slows the learned decay; 16 in paper and code.
        scale: factor of the queries; head_dim^(-1/2) if None, 1 in the paper.
    """

    def __init__(
        self, geometry: Geometry, temperature: float = 16.0, scale: float | None = None
    ) -> None:
        super().__init__(geometry)
        self.temperature = positive(self.name, "temperature", temperature)
        self.scale = self.checked_scale(scale)
        self.decay_logit = nn.Parameter(torch.zeros(geometry.num_heads, geometry.head_dim))

    def learned_gates(self, k: Tensor) -> dict[str, Tensor]:
        """One decay per channel."""
        return {"log_decay": functional.logsigmoid(widen(self.decay_logit)) / self.temperature}

    def transition(self, k: Tensor, v: Tensor, g: Tensor) -> Transition:
        """Decay, and then write."""
        return Transition(k, v, g)
