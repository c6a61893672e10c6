"""Kimi Delta Attention's layer: data-dependent gates, short convolution, norm and output gate."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..base import Geometry
from ..capabilities import RECURRENT_LAYER
from ..engines.recurrent_layer import ConvolvedLayer
from ..maths.channel_delta import channel_delta_rule, reference_channel_delta_rule
from ..maths.delta_rule import delta_flops, unit_length
from ..maths.gates import RATES, STEPS, spread
from ..maths.heads import merge_heads, split_heads
from ..maths.norms import normalise, reference_normalise
from ..precision import float16_in_float32, in_wide_precision, widen
from ..registry import register_attention


@register_attention(
    "kda_layer",
    title="KDA layer",
    source="Kimi Team, 2025, Kimi Linear, arXiv:2510.26692",
    family="recurrent",
    capabilities=RECURRENT_LAYER,
)
class KdaLayer(ConvolvedLayer):
    """KDA with gates that the data choose, short convolution, norm and output gate.

        q, k, v = silu(convolution(qkv(x)))              q, k of unit length per head
        beta = sigmoid(b(x))         g = -exp(log_rate_h) softplus(decay(x) + step_bias)
        out = proj(norm(kda(q, k, v, beta, g)) * sigmoid(gate(x)))

    ``decay`` and ``gate`` are pairs of maps with value_dim numbers between them.

    Hazards:
        - Those of its core, `kda`; keys are normalised here, so its state is bounded.

    Differences:
        - The authors draw rates and steps at random from their ranges; here they are spaced evenly,
          slow ones first.
        - Their "safe gate", a decay with a lower bound, and groups of value heads are not offered.

    Args:
        geometry: the shape to build for; causal.
        conv_size: tokens that the convolution sees; 0 leaves it out.
    """

    recurrence_flops = staticmethod(delta_flops)

    def __init__(self, geometry: Geometry, conv_size: int = 4) -> None:
        super().__init__(geometry, conv_size)
        channels, heads, rank = geometry.embed_dim, geometry.num_heads, geometry.value_dim
        values = heads * geometry.value_dim
        self.beta = nn.Linear(channels, heads, bias=False)
        self.decay_down = nn.Linear(channels, rank, bias=False)
        self.decay_up = nn.Linear(rank, channels, bias=False)
        self.log_rate = nn.Parameter(spread(RATES, heads).log())
        steps = torch.expm1(spread(STEPS, geometry.head_dim)).log()  # softplus, inverted
        self.step_bias = nn.Parameter(steps.repeat(heads, 1))
        self.norm = nn.RMSNorm(geometry.value_dim, eps=1e-5)
        self.gate_down = nn.Linear(channels, rank, bias=False)
        self.gate_up = nn.Linear(rank, values)
        self.proj = nn.Linear(values, channels, bias=False)

    @float16_in_float32
    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) -> (B, N, C)."""
        q, k, v = self.heads(x)
        steps = split_heads(self.decay_up(self.decay_down(x)), self.geometry.num_heads)
        mixed = merge_heads(self._mix(q, k, v, b=self.beta(x), steps=steps))
        gate = self.gate_up(self.gate_down(x)).sigmoid()
        return self.proj(mixed * gate)  # type: ignore[no-any-return]

    @in_wide_precision
    def _mix(self, q: Tensor, k: Tensor, v: Tensor, *, b: Tensor, steps: Tensor) -> Tensor:
        q, k, v, steps = (x.contiguous() for x in (q, k, v, steps))  # or no compiler takes it
        beta = widen(b).sigmoid().transpose(1, 2).unsqueeze(-1)
        step = functional.softplus(widen(steps) + widen(self.step_bias)[:, None])
        log_decay = -widen(self.log_rate).exp()[:, None, None] * step
        q, k = unit_length(q) * q.shape[-1] ** -0.5, unit_length(k)
        mixed = self.mixed(channel_delta_rule, q, k, beta * k, beta * v, log_decay)
        return normalise(mixed, self.norm)

    def reference(self, x: Tensor) -> Tensor:
        """Token by token, with norm and gates written out."""
        (q, k, v), heads = self.reference_heads(x), self.geometry.num_heads
        steps = split_heads(self.decay_up(self.decay_down(x)), heads)
        beta = split_heads(1 / (1 + (-self.beta(x)).exp()), heads)  # (B, H, N, 1)
        step = (1 + (steps + self.step_bias[:, None]).exp()).log()
        log_decay = -self.log_rate.exp()[:, None, None] * step
        q, k = (t / (t.pow(2).sum(-1, keepdim=True) + 1e-6).sqrt() for t in (q, k))
        q = q / q.shape[-1] ** 0.5
        mixed = reference_channel_delta_rule(q, k, beta * k, beta * v, log_decay)
        normed = merge_heads(reference_normalise(mixed, self.norm))
        out: Tensor = self.proj(normed / (1 + (-self.gate_up(self.gate_down(x))).exp()))
        return out
