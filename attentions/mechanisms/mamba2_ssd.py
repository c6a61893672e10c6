"""Mamba-2: the state space duality, as a core and as the paper's layer."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..base import AttentionLayer, CallShape, Geometry
from ..capabilities import Capabilities
from ..checks import whole
from ..maths.decay import chunked_flops, decayed_attention, decayed_flops
from ..maths.gates import RATES, STEPS, SelectiveDecay, spread
from ..maths.heads import merge_heads, split_heads
from ..maths.norms import normalise, reference_normalise
from ..maths.recurrent import HeadDecay, from_nothing
from ..maths.short_convolution import (
    convolution_flops,
    convolve_tokens,
    reference_convolve_tokens,
    short_convolution,
)
from ..precision import float16_in_float32, in_wide_precision, step_in_wide_precision, widen
from ..registry import register_attention

_SOURCE = "Dao and Gu, 2024, arXiv:2405.21060"


@register_attention(
    "mamba2_ssd",
    title="Mamba-2 (SSD)",
    source=_SOURCE,
    family="recurrent",
    capabilities=Capabilities(
        bidirectional=False,
        causal=True,
        recurrent=True,
        masks=frozenset({"padding"}),
        gates=("log_decay",),
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
        rates = spread((RATES[0] * STEPS[0], RATES[1] * STEPS[1]), geometry.num_heads)
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


@register_attention(
    "mamba2_ssd_layer",
    title="Mamba-2 layer",
    source=_SOURCE,
    family="recurrent",
    capabilities=Capabilities(
        bidirectional=False,
        causal=True,
        position_free=False,
        heads_independent=False,
        scopes=("layer",),
    ),
)
class Mamba2SsdLayer(AttentionLayer):
    """Mamba-2 with steps that the data choose, short convolution, skip, gate and norm.

        z, v, k, q, dt = in_proj(x)                  v, k, q = silu(convolution(v, k, q))
        step = softplus(dt + step_bias)              g = -exp(log_rate) step
        y = mamba2_ssd(q, k, step v, g) + skip v
        out = out_proj(norm(y * silu(z)))

    k and q, the paper's B and C, are shared by the heads of a group. The authors' models have an
    inner width of 2 C and a state of 64 or 128: ``value_dim`` and ``head_dim`` of the geometry.

    Hazards:
        - Those of its core, `mamba2_ssd`. Its output is gated before it is normalised: that product
          overflows float32 for tokens of norm 1e9.

    Differences:
        - The authors' models have an inner width of 2 C and a state of 64 or 128; here both are as
          the geometry says.

    Args:
        geometry: the shape to build for; causal.
        num_groups: groups of heads; must divide num_heads. One in the paper's models.
        conv_size: tokens that the convolution sees; 0 leaves it out.
    """

    def __init__(self, geometry: Geometry, num_groups: int = 1, conv_size: int = 4) -> None:
        super().__init__(geometry)
        whole(self.name, "num_groups", num_groups, 1)
        whole(self.name, "conv_size", conv_size, 0)
        channels, heads = geometry.embed_dim, geometry.num_heads
        if heads % num_groups:
            raise ValueError(
                f"{self.name}: num_groups is {num_groups}; a divisor of num_heads, {heads}, is "
                "needed."
            )
        self.num_groups = num_groups
        values, states = heads * geometry.value_dim, num_groups * geometry.head_dim
        self.widths = [values, states, states]
        self.in_proj = nn.Linear(channels, values + sum(self.widths) + heads, bias=False)
        self.conv = short_convolution(sum(self.widths), conv_size, bias=True)
        self.decay = SelectiveDecay(heads)
        self.skip = nn.Parameter(torch.ones(heads))
        self.norm = nn.RMSNorm(values, eps=1e-5)
        self.out_proj = nn.Linear(values, channels, bias=False)

    @float16_in_float32
    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) -> (B, N, C)."""
        z, mixed, dt = self._project(x)
        q, k, v = self._split(functional.silu(convolve_tokens(mixed, self.conv)))
        return self.out_proj(self._mix(q, k, v, dt=dt, z=z))  # type: ignore[no-any-return]

    def _project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        widths = [self.widths[0], sum(self.widths), self.geometry.num_heads]
        z, mixed, dt = self.in_proj(x).split(widths, dim=-1)
        return z, mixed, dt

    def _split(self, mixed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """q, k and v, all (B, H, N, ...); groups are repeated for their heads."""
        v, k, q = mixed.split(self.widths, dim=-1)
        heads = self.geometry.num_heads
        k, q = (
            split_heads(part, self.num_groups).repeat_interleave(heads // self.num_groups, dim=1)
            for part in (k, q)
        )
        return q, k, split_heads(v, heads)

    @in_wide_precision
    def _mix(self, q: Tensor, k: Tensor, v: Tensor, *, dt: Tensor, z: Tensor) -> Tensor:
        step, log_decay = self.decay(dt)
        y = from_nothing(decayed_attention, q, k, v * step.unsqueeze(-1), log_decay)
        y = merge_heads(y + v * widen(self.skip)[:, None, None]) * functional.silu(widen(z))
        return normalise(y, self.norm)  # (B, N, H * E)

    def reference(self, x: Tensor) -> Tensor:
        """With convolution, weights, norm and gates written out."""
        z, mixed, dt = self._project(x)
        mixed = reference_convolve_tokens(mixed, self.conv)
        q, k, v = self._split(mixed / (1 + (-mixed).exp()))
        step = (1 + (dt + self.decay.step_bias).exp()).log().transpose(1, 2)  # (B, H, N)
        total = (-self.decay.log_rate.exp()[:, None] * step).cumsum(dim=-1)
        left = (total[..., :, None] - total[..., None, :]).tril().exp().tril()
        y = (q @ k.transpose(-2, -1) * left) @ (v * step[..., None])
        y = merge_heads(y + v * self.skip[:, None, None]) * z / (1 + (-z).exp())
        return self.out_proj(reference_normalise(y, self.norm))  # type: ignore[no-any-return]

    def _around_flops(self, shape: CallShape) -> int:
        tokens = shape.batch_size * shape.query_len
        weights = self.in_proj.weight.numel() + self.out_proj.weight.numel()
        return 2 * tokens * weights + convolution_flops(tokens, self.conv)

    def _core_shape(self, shape: CallShape) -> CallShape:
        return replace(shape, value_dim=self.geometry.value_dim)

    def flops(self, shape: CallShape) -> int:
        """Projections, convolution and the recurrence."""
        return self._around_flops(shape) + decayed_flops(self._core_shape(shape))

    def executed_flops(self, shape: CallShape) -> int:
        """Projections, convolution and the chunked form."""
        return self._around_flops(shape) + chunked_flops(self._core_shape(shape))
