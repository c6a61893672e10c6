"""Gated DeltaProduct: several steps of the delta rule for each token."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from ..base import Geometry
from ..capabilities import RECURRENT, Gate
from ..checks import flag, whole
from ..engines.state import StateCore
from ..maths.recurrences.gates import HEAD_RATES, spread
from ..maths.recurrences.transition import Transition
from ..precision import widen
from ..registry import register_attention


@register_attention(
    "gated_deltaproduct",
    title="Gated DeltaProduct",
    source="Siems et al., 2025, arXiv:2502.10297",
    family="recurrent",
    capabilities=replace(
        RECURRENT,
        gates={
            "beta": Gate("bhn", low=0, high=2),
            "log_decay": Gate("bhn", high=0, activation="step"),
            "more_keys": Gate("bhnrd", unit=True),
            "more_values": Gate("bhnre"),
            "more_betas": Gate("bhnr", low=0, high=2),
        },
    ),
)
class GatedDeltaProduct(StateCore):
    """One decay, then R steps of the delta rule per token, so that a token can turn the state.

        S <- exp(g_t) S_{t-1};  for r = 1..R:  S <- S + beta_tr k_tr (v_tr - S^T k_tr)^T
        S_t = S        out_t = S_t^T q_t / sqrt(head_dim)

    ``k``, ``v`` and ``beta``, (B, H, N), are those of the first step; ``more_keys``, (B, H, N, R-1,
    D), ``more_values``, (B, H, N, R-1, E), and ``more_betas``, (B, H, N, R-1), of the others. A
    call without more keys and values has one step. ``log_decay``, (B, H, N), is g. Without decays
    and betas each head has values that are learned, as in `gated_deltanet`.

    Hazards:
        - As of `gated_deltanet`, and R times as many steps.

    Differences:
        - Authors' code takes R keys per token as R tokens, and keys of unit length from its layer;
          the core brings them to unit length here.
        - Their reference ignores ``scale``, their kernels apply it, and so does this.

    Args:
        geometry: the shape to build for; causal.
        num_householder: R.
        forget_gate: whether the state decays; False takes no ``log_decay``.
        negative_eigenvalues: whether betas reach 2, as in the authors' layer.
        normalise_keys: whether keys are divided by their length, as in `deltanet`.
        scale: factor of the queries; head_dim^(-1/2) if None.
    """

    def __init__(
        self,
        geometry: Geometry,
        num_householder: int = 2,
        forget_gate: bool = True,
        negative_eigenvalues: bool = True,
        normalise_keys: bool = True,
        scale: float | None = None,
    ) -> None:
        super().__init__(geometry)
        heads, steps = geometry.num_heads, whole(self.name, "num_householder", num_householder, 1)
        self.gate_axes = {"r": steps - 1}
        self.most = 2.0 if flag(self.name, "negative_eigenvalues", negative_eigenvalues) else 1.0
        self.gates["beta"] = Gate("bhn", low=0, high=self.most)
        self.gates["more_betas"] = Gate("bhnr", low=0, high=self.most)
        decays = flag(self.name, "forget_gate", forget_gate)
        unused = {"more_keys", "more_values", "more_betas"} if steps == 1 else set()
        for name in unused if decays else unused | {"log_decay"}:
            del self.gates[name]
        self.normalise_keys = flag(self.name, "normalise_keys", normalise_keys)
        self.scale = self.checked_scale(scale)
        self.beta_logit = nn.Parameter(torch.zeros(heads, steps))
        self.log_rate = nn.Parameter(spread(HEAD_RATES, heads).log()) if decays else None

    def learned_gates(self, k: Tensor) -> dict[str, Tensor]:
        """Shares and decays per head; keys and values of zeros, which write nothing."""
        g, betas = self.geometry, self.most * widen(self.beta_logit).sigmoid()
        nothing = betas.new_zeros(*betas[:, 1:].shape, 1)
        decays = {} if self.log_rate is None else {"log_decay": -widen(self.log_rate).exp()}
        return decays | {
            "beta": betas[:, 0],
            "more_keys": nothing.expand(-1, -1, g.head_dim),
            "more_values": nothing.expand(-1, -1, g.value_dim),
            "more_betas": betas[:, 1:],
        }

    def transition(self, k: Tensor, v: Tensor, beta: Tensor, *rest: Tensor) -> list[Transition]:
        """Decay, and then replace what is stored under one key after the other."""
        g, more = (None, rest) if self.log_rate is None else (rest[0], rest[1:])
        steps = [(k, v, beta)]
        if more:
            keys, values, betas = more
            keys, betas = self.prepare(k, keys)[1], betas.unsqueeze(-1)
            steps += zip(*(x.unbind(3) for x in (keys, values, betas)), strict=True)
        return [
            Transition(key, strength * value, g if turn == 0 else None, erase=strength * key)
            for turn, (key, value, strength) in enumerate(steps)
        ]
