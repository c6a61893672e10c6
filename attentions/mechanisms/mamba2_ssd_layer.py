"""Mamba-2's layer: data-dependent steps, short convolution, skip, gate and norm."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..base import Geometry
from ..capabilities import RECURRENT_LAYER
from ..checks import whole
from ..engines.recurrent_layer import RecurrentLayer
from ..maths.decay import decayed_attention
from ..maths.gates import SelectiveDecay
from ..maths.heads import merge_heads, split_heads
from ..maths.norms import normalise, reference_normalise
from ..maths.short_convolution import (
    convolve_tokens,
    reference_convolve_tokens,
    short_convolution,
)
from ..precision import float16_in_float32, in_wide_precision, widen
from ..registry import register_attention


@register_attention(
    "mamba2_ssd_layer",
    title="Mamba-2 layer",
    source="Dao and Gu, 2024, arXiv:2405.21060",
    family="recurrent",
    capabilities=RECURRENT_LAYER,
)
class Mamba2SsdLayer(RecurrentLayer):
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
        y = self.mixed(decayed_attention, q, k, v * step.unsqueeze(-1), log_decay)
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
