"""Gated DeltaNet: the delta rule on a decaying state."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..base import Geometry
from ..capabilities import Capabilities, Gate
from ..maths.gates import HEAD_RATES, spread
from ..maths.recurrent import DeltaCore
from ..precision import in_wide_precision, step_in_wide_precision, widen
from ..registry import register_attention


@register_attention(
    "gated_deltanet",
    title="Gated DeltaNet",
    source="Yang et al., 2025, arXiv:2412.06464",
    family="recurrent",
    capabilities=Capabilities(
        bidirectional=False,
        causal=True,
        recurrent=True,
        masks=frozenset({"padding"}),
        gates={"beta": Gate("bhn", low=0, high=1), "log_decay": Gate("bhn", high=0)},
        position_free=False,
    ),
)
class GatedDeltaNet(DeltaCore):
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
        normalise_keys: whether keys are divided by their length.
        normalise_queries: the same for queries.
        scale: factor of the queries; head_dim^(-1/2) if None.
    """

    has_fixed_decay = False

    def __init__(
        self,
        geometry: Geometry,
        normalise_keys: bool = True,
        normalise_queries: bool = False,
        scale: float | None = None,
    ) -> None:
        super().__init__(geometry, normalise_keys, normalise_queries, scale)
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
        beta: Tensor | None = None,
        log_decay: Tensor | None = None,
        key_mask: Tensor | None = None,
    ) -> Tensor:
        """(B, H, N, D), (B, H, N, D), (B, H, N, E) -> (B, H, N, E)."""
        return self._mix(q, k, v, beta, log_decay, key_mask=key_mask)

    @step_in_wide_precision
    def step(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        state: Tensor,
        *,
        beta: Tensor | None = None,
        log_decay: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The next T tokens: (B, H, T, D), (B, H, T, D), (B, H, T, E), state."""
        return self._continue(q, k, v, state, beta, log_decay)

    def reference(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        beta: Tensor | None = None,
        log_decay: Tensor | None = None,
    ) -> Tensor:
        """One N x N system for the values, and N x N weights over them."""
        return self._written_out(q, k, v, beta, log_decay)
