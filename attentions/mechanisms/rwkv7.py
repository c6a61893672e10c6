"""RWKV-7: a state that decays by channel, and a key of its own for what is removed from it."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from ..base import Geometry
from ..capabilities import RECURRENT, Gate
from ..engines.state import StateCore
from ..maths.recurrences.delta_rule import unit_length
from ..maths.recurrences.transition import Transition
from ..precision import widen
from ..registry import register_attention

_FASTEST = -0.6065306597126334
"""-exp(-1/2): the strongest log decay of RWKV-7's layer."""


@register_attention(
    "rwkv7",
    title="RWKV-7",
    source="Peng et al., 2025, arXiv:2503.14456",
    family="recurrent",
    capabilities=replace(
        RECURRENT,
        gates={
            "log_decay": Gate("bhnd", high=0, activation="fading", start=(-6, 0)),
            "removal_key": Gate("bhnd", unit=True, activation="key"),
            "removal_rate": Gate("bhnd", low=0, high=1),
        },
    ),
)
class Rwkv7(StateCore):
    """A state whose channels decay and from which a removal key takes a part of what it finds.

        S_t = (diag(exp(w_t)) - (a_t * kappa_t) kappa_t^T) S_{t-1} + k_t v_t^T
        out_t = S_t^T q_t

    ``log_decay``, ``removal_key`` of unit length and ``removal_rate``, (B, H, N, D) each, are w,
    kappa and a. The removal reads the state before it decays. Without them w and a are learned per
    channel, w = -exp(-1/2) sigmoid(decay_logit) and a = sigmoid(rate_logit), starting half way, and
    kappa is the key at unit length. The key is what is written, as it comes; RWKV's r is q.

    Hidden tokens neither write to the state nor decay it. A query whose keys are all hidden gets
    zeros.

    Hazards:
        - Without a scale or a norm outputs grow like sqrt(N) at weak decay; the authors' layer has
          a GroupNorm behind it.
        - Removal keys longer than 1, or rates above 1, let the state grow without bound.

    Differences:
        - Token shift, the projections of w, a, kappa, the bonus, GroupNorm and gate are the
          authors' layer and not in this core.

    Args:
        geometry: the shape to build for; causal.
    """

    def __init__(self, geometry: Geometry) -> None:
        super().__init__(geometry)
        sizes = (geometry.num_heads, geometry.head_dim)
        self.decay_logit = nn.Parameter(torch.zeros(sizes))
        self.rate_logit = nn.Parameter(torch.zeros(sizes))

    def learned_gates(self, k: Tensor) -> dict[str, Tensor]:
        """Decays and rates per channel; the key itself for the removal key."""
        return {
            "log_decay": _FASTEST * widen(self.decay_logit).sigmoid(),
            "removal_key": unit_length(k),
            "removal_rate": widen(self.rate_logit).sigmoid(),
        }

    def transition(
        self, k: Tensor, v: Tensor, w: Tensor, kappa: Tensor, rate: Tensor
    ) -> Transition:
        """Decay and removal both take the state as it was."""
        return Transition(k, v, w, erase=kappa, erased=rate * kappa, erases_first=True)
