"""Gated DeltaNet's layer: data-dependent gates, short convolution, norm and output gate."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from ..base import Geometry
from ..capabilities import RECURRENT_LAYER
from ..checks import flag
from ..engines.recurrent_layer import ConvolvedLayer
from ..maths.delta_rule import (
    delta_flops,
    delta_rule,
    reference_delta_rule,
    unit_length,
)
from ..maths.gates import SelectiveDecay
from ..maths.heads import merge_heads
from ..maths.norms import normalise, reference_normalise
from ..precision import float16_in_float32, in_wide_precision, widen
from ..registry import register_attention


@register_attention(
    "gated_deltanet_layer",
    title="Gated DeltaNet layer",
    source="Yang et al., 2025, arXiv:2412.06464",
    family="recurrent",
    capabilities=RECURRENT_LAYER,
)
class GatedDeltaNetLayer(ConvolvedLayer):
    """Gated DeltaNet with gates that the data choose, short convolution, norm and output gate.

        q, k, v = silu(convolution(qkv(x)))              q, k of unit length per head
        beta = sigmoid(b(x))         g = -exp(log_rate) softplus(a(x) + step_bias)
        out = proj(norm(gated_deltanet(q, k, v, beta, g)) * silu(gate(x)))

    The authors' models have values twice as wide as keys: that is ``value_dim`` of the geometry.

    Hazards:
        - Those of its core, `gated_deltanet`; keys are normalised here, so its state is bounded.

    Differences:
        - The authors' models have values twice as wide as keys; here they are as wide as the
          geometry says.

    Args:
        geometry: the shape to build for; causal.
        conv_size: tokens that the convolution sees; 0 leaves it out.
        output_gate: whether the norm's output is gated.
    """

    recurrence_flops = staticmethod(delta_flops)

    def __init__(self, geometry: Geometry, conv_size: int = 4, output_gate: bool = True) -> None:
        super().__init__(geometry, conv_size)
        flag(self.name, "output_gate", output_gate)
        channels, heads = geometry.embed_dim, geometry.num_heads
        values = heads * geometry.value_dim
        self.ab = nn.Linear(channels, 2 * heads, bias=False)
        self.decay = SelectiveDecay(heads)
        self.norm = nn.RMSNorm(geometry.value_dim, eps=1e-5)
        self.gate = nn.Linear(channels, values, bias=False) if output_gate else None
        self.proj = nn.Linear(values, channels, bias=False)

    @float16_in_float32
    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) -> (B, N, C)."""
        q, k, v = self.heads(x)
        a, b = self.ab(x).chunk(2, dim=-1)
        mixed = merge_heads(self._mix(q, k, v, a=a, b=b))
        if self.gate is not None:
            mixed = mixed * functional.silu(self.gate(x))
        return self.proj(mixed)  # type: ignore[no-any-return]

    @in_wide_precision
    def _mix(self, q: Tensor, k: Tensor, v: Tensor, *, a: Tensor, b: Tensor) -> Tensor:
        beta, log_decay = widen(b).sigmoid().transpose(1, 2), self.decay(a)[1]
        q, k = unit_length(q) * q.shape[-1] ** -0.5, unit_length(k)
        return normalise(self.mixed(delta_rule, q, k, v, beta, log_decay), self.norm)

    def reference(self, x: Tensor) -> Tensor:
        """With the system, the weights, norm and gates written out."""
        q, k, v = self.reference_heads(x)
        a, b = self.ab(x).transpose(1, 2).chunk(2, dim=1)
        step = (1 + (a + self.decay.step_bias[:, None]).exp()).log()
        log_decay = -self.decay.log_rate.exp()[:, None] * step
        q, k = (t / (t.pow(2).sum(-1, keepdim=True) + 1e-6).sqrt() for t in (q, k))
        mixed = reference_delta_rule(q / q.shape[-1] ** 0.5, k, v, 1 / (1 + (-b).exp()), log_decay)
        normed = merge_heads(reference_normalise(mixed, self.norm))
        if self.gate is not None:
            gate = self.gate(x)
            normed = normed * gate / (1 + (-gate).exp())
        return self.proj(normed)  # type: ignore[no-any-return]
