"""Simple gated linear attention: one decay per head and token, optionally data-dependent."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..base import Geometry
from ..capabilities import Capabilities, Gate
from ..checks import positive
from ..maths.recurrent import HeadDecay
from ..precision import in_wide_precision, step_in_wide_precision, widen
from ..registry import register_attention


@register_attention(
    "simple_gla",
    title="Simple GLA (scalar decay)",
    source="Yang et al., 2024, flash-linear-attention; GLA: arXiv:2312.06635",
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
class SimpleGla(HeadDecay):
    """S_t = exp(g_t) S_{t-1} + k_t v_t^T and out_t = S_t^T q_t / sqrt(head_dim).

    ``log_decay``, (B, H, N), is g_t. Without it each head has one decay that is learned,
    g = log sigmoid(decay_logit) / temperature. It starts at decay_logit = 0, where the projection
    that computes it in the authors' layer starts on average.

    Hidden tokens neither write to the state nor decay it, as if they were removed. A query whose
    keys are all hidden gets zeros.

    Hazards:
        - There is no normaliser: outputs grow with the length that a slow head remembers, and
          models put a norm behind it.

    Differences:
        - It has no paper of its own; the 1/sqrt(head_dim) is that of the authors' code: ``scale=1``
          leaves it out.

    Args:
        geometry: the shape to build for; causal.
        temperature: slows the learned decay: at 16, as in the authors' layer, half of the state
            is left after 16 tokens to begin with.
        scale: factor of the scores; head_dim^(-1/2) if None, as in the authors' code.
    """

    def __init__(
        self, geometry: Geometry, temperature: float = 16.0, scale: float | None = None
    ) -> None:
        super().__init__(geometry)
        self.temperature = positive(self.name, "temperature", temperature)
        self.scale = self._scale(scale)
        self.decay_logit = nn.Parameter(torch.zeros(geometry.num_heads))

    def head_log_decay(self, device: torch.device) -> Tensor:
        """The learned log decays, (H,)."""
        return functional.logsigmoid(widen(self.decay_logit)) / self.temperature

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
        """The N x N weights written out."""
        return self._written_out(q, k, v, log_decay)
