"""Kimi Delta Attention: the delta rule on a state each channel of which decays by itself."""

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
    "kda",
    title="KDA (Kimi Delta Attention)",
    source="Kimi Team, 2025, Kimi Linear, arXiv:2510.26692",
    family="recurrent",
    capabilities=replace(
        RECURRENT,
        gates={
            "beta": Gate("bhn", low=0, high=1),
            "log_decay": Gate("bhnd", high=0, activation="step"),
        },
    ),
)
class Kda(StateCore):
    """`gated_deltanet` with a decay per channel, S' = diag(exp(g_t)) S_{t-1}.

        S_t = S' + beta_t k_t (v_t - S'^T k_t)^T        out_t = S_t^T q_t / sqrt(head_dim)

    ``beta``, (B, H, N), and ``log_decay``, (B, H, N, D), are beta_t and g_t. Without them each head
    has values that are learned: sigmoid(beta_logit), starting at 1/2, and -exp(log_rate) per
    channel, starting from 0.001 to 1.6 per token, slow heads first. Gates that the data choose,
    convolutions, norm and output gate are in `kda_layer`.

    Hazards:
        - With ``normalise_keys=False`` keys longer than sqrt(2 / beta) let the state grow without
          bound.
        - The chunked form takes decays per channel, so its pairs cost about twice those of
          `gated_deltanet`.

    Differences:
        - Authors' code takes keys and queries as they come, of unit length from their layer; here
          the core brings keys to unit length.

    Args:
        geometry: the shape to build for; causal.
        normalise_keys: whether keys are divided by their length, as in `deltanet`.
        scale: factor of the queries; head_dim^(-1/2) if None.
        negative_eigenvalues: whether beta reaches 2, so that a step can flip what a key holds.
    """

    def __init__(
        self,
        geometry: Geometry,
        normalise_keys: bool = True,
        scale: float | None = None,
        negative_eigenvalues: bool = False,
    ) -> None:
        super().__init__(geometry)
        self.normalise_keys = flag(self.name, "normalise_keys", normalise_keys)
        self.most = 2.0 if flag(self.name, "negative_eigenvalues", negative_eigenvalues) else 1.0
        self.gates["beta"] = Gate("bhn", low=0, high=self.most)
        self.scale = self.checked_scale(scale)
        self.beta_logit = nn.Parameter(torch.zeros(geometry.num_heads))
        rates = spread(HEAD_RATES, geometry.num_heads)
        self.log_rate = nn.Parameter(rates.log()[:, None].repeat(1, geometry.head_dim))

    def learned_gates(self, k: Tensor) -> dict[str, Tensor]:
        """One share per head, one decay per channel."""
        written, forgotten = widen(self.beta_logit).sigmoid(), -widen(self.log_rate).exp()
        return {"beta": self.most * written, "log_decay": forgotten}

    def transition(self, k: Tensor, v: Tensor, beta: Tensor, g: Tensor) -> Transition:
        """Decay, and then replace what is stored under the key."""
        return Transition(k, beta * v, g, erase=beta * k)
