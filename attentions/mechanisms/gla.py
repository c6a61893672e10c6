"""Gated linear attention: a decay per token and key channel."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..base import CallShape, Geometry
from ..capabilities import Capabilities, Gate
from ..checks import positive
from ..maths.channel_decay import channel_chunked_flops, channel_decayed_attention
from ..maths.decay import decayed_flops
from ..maths.gates import ERASED, hide_steps, log_decay_gate
from ..maths.masks import hide_keys
from ..maths.recurrent import MatrixState
from ..precision import in_wide_precision, step_in_wide_precision, widen
from ..registry import register_attention


@register_attention(
    "gla",
    title="GLA (gated linear attention)",
    source="Yang et al., 2024, arXiv:2312.06635",
    family="recurrent",
    capabilities=Capabilities(
        bidirectional=False,
        causal=True,
        recurrent=True,
        masks=frozenset({"padding"}),
        gates={"log_decay": Gate("bhnd", high=0)},
        position_free=False,
    ),
)
class Gla(MatrixState):
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
        scale: factor of the queries; head_dim^(-1/2) if None.
    """

    recurrence = staticmethod(channel_decayed_attention)

    def __init__(
        self, geometry: Geometry, temperature: float = 16.0, scale: float | None = None
    ) -> None:
        super().__init__(geometry)
        self.temperature = positive(self.name, "temperature", temperature)
        self.scale = self._scale(scale)
        self.decay_logit = nn.Parameter(torch.zeros(geometry.num_heads, geometry.head_dim))

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

    def _inputs(
        self, q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor | None, *, key_mask: Tensor | None
    ) -> tuple[Tensor, ...]:
        k = hide_keys(self.name, k, key_mask)
        return q * self.scale, k, v, hide_steps(self._log_decay(q, log_decay), key_mask)

    def _log_decay(self, q: Tensor, given: Tensor | None) -> Tensor:
        """(B, H, N, D) as given, or else as learned, (1, H, N, D)."""
        if given is not None:
            return log_decay_gate(self.name, given, q.shape)
        learned = functional.logsigmoid(widen(self.decay_logit)) / self.temperature
        return learned.clamp(min=ERASED)[None, :, None].expand(-1, -1, q.shape[2], -1)

    @step_in_wide_precision
    def step(
        self, q: Tensor, k: Tensor, v: Tensor, state: Tensor, *, log_decay: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The next T tokens: (B, H, T, D), (B, H, T, D), (B, H, T, E), state."""
        return self._continue(q, k, v, state, log_decay)

    def reference(
        self, q: Tensor, k: Tensor, v: Tensor, *, log_decay: Tensor | None = None
    ) -> Tensor:
        """The N x N weights written out, channel by channel."""
        return weights_by_channel(q * self.scale, k, self._log_decay(q, log_decay).to(q.dtype)) @ v

    def flops(self, shape: CallShape) -> int:
        """Keys meet values and queries read, token by token. A gate scales: it adds no product."""
        return decayed_flops(shape)

    def executed_flops(self, shape: CallShape) -> int:
        """The chunked form also writes out the pairs within a chunk."""
        return channel_chunked_flops(shape)


def weights_by_channel(q: Tensor, k: Tensor, log_decay: Tensor) -> Tensor:
    """N x N weights, one key channel after the other."""
    weights = q.new_zeros(*q.shape[:3], q.shape[2])
    total = log_decay.cumsum(dim=-2)
    for channel in range(q.shape[-1]):
        left = total[..., :, None, channel] - total[..., None, :, channel]
        pairs = q[..., :, None, channel] * k[..., None, :, channel]
        weights = weights + (pairs * left.tril().exp()).tril()
    return weights
