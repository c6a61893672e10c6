"""Comba: a delta rule that removes by a key of its own, before the state decays."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from ..base import Geometry
from ..capabilities import RECURRENT, Gate
from ..checks import flag
from ..engines.state import StateCore
from ..maths.recurrences.delta_rule import unit_length
from ..maths.recurrences.gates import HEAD_RATES, spread
from ..maths.recurrences.transition import Transition
from ..maths.shared_heads import for_every_query_head
from ..precision import widen
from ..registry import register_attention


@register_attention(
    "comba",
    title="Comba",
    source="Hu et al., 2025, arXiv:2506.02475",
    family="recurrent",
    capabilities=replace(
        RECURRENT,
        gates={
            "beta": Gate("bhn", low=0, high=1),
            "log_decay": Gate("bhn", high=0, activation="step"),
            "removal_key": Gate("bhnd", unit=True, activation="key"),
        },
    ),
)
class Comba(StateCore):
    """A decaying state from which each token takes what it finds under a key for removal.

        S_t = exp(g_t) S_{t-1} + beta_t k_t (v_t - S_{t-1}^T p_t)^T
        out_t = S_t^T q_t / sqrt(head_dim)

    ``beta`` and ``log_decay``, (B, H, N), are beta and g, and ``removal_key``, (B, H, N, D), is p.
    The removal reads the state before it decays; with p_t = exp(g_t) k_t this is `gated_deltanet`.
    Without them each head has values that are learned: beta and decay as there, and p = b k with
    b = sigmoid(removal_logit), starting at sigmoid(1).

    Hidden tokens neither write to the state nor decay it. A query whose keys are all hidden gets
    zeros.

    Hazards:
        - exp(g) - beta k . p must stay between -1 and 1, or the state grows without bound: so it
          may with removal keys longer than 1, or with ``normalise_keys=False``.

    Differences:
        - The recurrent reference in the authors' repository removes from the decayed state; their
          chunked one and their kernels from the undecayed one, as here and in the paper.
        - Their layer brings queries, keys and removal keys to unit length, which cancels b; the
          core does so with keys alone, and takes removal keys as they come.
        - The output correction q - D p, convolutions, norm and gate are the authors' layer.

    Args:
        geometry: the shape to build for; causal.
        normalise_keys: whether keys are divided by their length, as in `deltanet`.
        scale: factor of the queries; head_dim^(-1/2) if None.
    """

    def __init__(
        self, geometry: Geometry, normalise_keys: bool = True, scale: float | None = None
    ) -> None:
        super().__init__(geometry)
        self.normalise_keys = flag(self.name, "normalise_keys", normalise_keys)
        self.scale = self.checked_scale(scale)
        self.beta_logit = nn.Parameter(torch.zeros(geometry.num_heads))
        self.log_rate = nn.Parameter(spread(HEAD_RATES, geometry.num_heads).log())
        self.removal_logit = nn.Parameter(torch.ones(geometry.num_heads))

    def learned_gates(self, k: Tensor) -> dict[str, Tensor]:
        """One share and one decay per head, and a part of the key."""
        part = widen(self.removal_logit).sigmoid()[:, None, None].to(k.dtype)
        return {
            "beta": widen(self.beta_logit).sigmoid(),
            "log_decay": -widen(self.log_rate).exp(),
            "removal_key": part * for_every_query_head(unit_length(k), len(part)),
        }

    def transition(
        self, k: Tensor, v: Tensor, beta: Tensor, g: Tensor, removal: Tensor
    ) -> Transition:
        """Decay and removal both take the state as it was."""
        return Transition(k, beta * v, g, erase=beta * removal, erases_first=True)
