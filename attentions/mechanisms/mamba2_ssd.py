"""Mamba-2: the state space duality."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..base import Geometry
from ..capabilities import Capabilities, Gate
from ..maths.gates import HEAD_RATES, spread
from ..maths.recurrent import HeadDecay
from ..precision import in_wide_precision, step_in_wide_precision, widen
from ..registry import register_attention


@register_attention(
    "mamba2_ssd",
    title="Mamba-2 (SSD)",
    source="Dao and Gu, 2024, arXiv:2405.21060",
    family="recurrent",
    capabilities=Capabilities(
        bidirectional=False,
        causal=True,
        recurrent=True,
        masks=frozenset({"padding"}),
        gates={"log_decay": Gate("bhn", high=0)},
        position_free=False,
    ),
)
class Mamba2Ssd(HeadDecay):
    """h_t = A_t h_{t-1} + B_t x_t^T and y_t = h_t^T C_t, with one number A_t per head.

    In attention's words C is q, B is k and x is v, which the caller has multiplied by its step, as
    the authors' minimal code has it. ``log_decay``, (B, H, N), is log A_t: the rate of the head
    times that step. Without it each head has one decay that is learned, -exp(log_rate), starting
    from the authors' range of 0.001 to 1.6 per token, slow heads first. No 1/sqrt(head_dim).

    The skip D x, the short convolution, norm and gate are in `mamba2_ssd_layer`.

    Hidden tokens neither write to the state nor decay it, as if they were removed. A query whose
    keys are all hidden gets zeros.

    Hazards:
        - There is no scale and no normaliser: outputs grow with the size of the state, and models
          put a norm behind it.

    Differences:
        - As in the authors' minimal code, values come multiplied by their step; the layer does
          that.
        - There is no 1/sqrt(head_dim), unlike in the recurrences of flash-linear-attention.

    Args:
        geometry: the shape to build for; causal. head_dim is the size of the state, value_dim that
            of a head.
    """

    def __init__(self, geometry: Geometry) -> None:
        super().__init__(geometry)
        rates = spread(HEAD_RATES, geometry.num_heads)
        self.log_rate = nn.Parameter(rates.log())

    def head_log_decay(self, device: torch.device) -> Tensor:
        """The learned log decays, (H,)."""
        return -widen(self.log_rate).exp()

    @in_wide_precision
    def forward(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        log_decay: Tensor | None = None,
        key_mask: Tensor | None = None,
    ) -> Tensor:
        """(B, H, N, D), (B, H, N, D), (B, H, N, E) -> (B, H, N, E)."""
        return self._mix(q, k, v, log_decay, key_mask=key_mask)

    @step_in_wide_precision
    def step(
        self, q: Tensor, k: Tensor, v: Tensor, state: Tensor, *, log_decay: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The next T tokens: (B, H, T, D), (B, H, T, D), (B, H, T, E), state."""
        return self._continue(q, k, v, state, log_decay)

    def reference(
        self, q: Tensor, k: Tensor, v: Tensor, *, log_decay: Tensor | None = None
    ) -> Tensor:
        """The dual form: N x N scores under the mask L of decays."""
        return self._written_out(q, k, v, log_decay)
