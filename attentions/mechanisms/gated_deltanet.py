"""Gated DeltaNet: the delta rule on a decaying state."""

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
    "gated_deltanet",
    title="Gated DeltaNet",
    source="Yang et al., 2025, arXiv:2412.06464",
    family="recurrent",
    capabilities=replace(
        RECURRENT,
        gates={
            "beta": Gate("bhn", low=0, high=1),
            "log_decay": Gate("bhn", high=0, activation="step"),
        },
    ),
)
class GatedDeltaNet(StateCore):
    """The delta rule on a state that has decayed first, S' = exp(g_t) S_{t-1}.

        S_t = S' + beta_t k_t (v_t - S'^T k_t)^T        out_t = S_t^T q_t / sqrt(head_dim)

    ``beta`` and ``log_decay``, both (B, H, N), are beta_t and g_t, the logarithm of the paper's
    alpha_t. Without them each head has values that are learned: sigmoid(beta_logit), starting at
    1/2, and -exp(log_rate), starting from Mamba-2's range of 0.001 to 1.6 per token, slow heads
    first.

    Keys, queries and scale are as for `DeltaNet`, for the same reasons; SiLU, short convolution,
    output norm and gate are in `gated_deltanet_layer`.

    Hidden tokens neither write to the state nor decay it, as if they were removed. A query whose
    keys are all hidden gets zeros.

    Hazards:
        - With ``normalise_keys=False`` keys longer than sqrt(2 / beta) let the state grow without
          bound.
        - A strong decay forgets at once, and with the state go the gradients to earlier tokens.

    Differences:
        - Those of `deltanet`: who normalises keys and queries, and the factor 1/sqrt(head_dim).

    Args:
        geometry: the shape to build for; causal.
        normalise_keys: whether keys are divided by their length, as in `deltanet`.
        normalise_queries: the same for queries.
        scale: factor of the queries; head_dim^(-1/2) if None, 1 in the paper.
        negative_eigenvalues: whether beta reaches 2, so that a step can flip what a key holds.
    """

    def __init__(
        self,
        geometry: Geometry,
        normalise_keys: bool = True,
        normalise_queries: bool = False,
        scale: float | None = None,
        negative_eigenvalues: bool = False,
    ) -> None:
        super().__init__(geometry)
        self.normalise_keys = flag(self.name, "normalise_keys", normalise_keys)
        self.normalise_queries = flag(self.name, "normalise_queries", normalise_queries)
        self.most = 2.0 if flag(self.name, "negative_eigenvalues", negative_eigenvalues) else 1.0
        self.gates["beta"] = Gate("bhn", low=0, high=self.most)
        self.scale = self.checked_scale(scale)
        self.beta_logit = nn.Parameter(torch.zeros(geometry.num_heads))
        self.log_rate = nn.Parameter(spread(HEAD_RATES, geometry.num_heads).log())

    def learned_gates(self, k: Tensor) -> dict[str, Tensor]:
        """One share and one decay per head."""
        written, forgotten = widen(self.beta_logit).sigmoid(), -widen(self.log_rate).exp()
        return {"beta": self.most * written, "log_decay": forgotten}

    def transition(self, k: Tensor, v: Tensor, beta: Tensor, g: Tensor) -> Transition:
        """Decay, and then replace what is stored under the key."""
        return Transition(k, beta * v, g, erase=beta * k)
