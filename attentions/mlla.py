"""MLLA's linear attention: rotary positions across all heads, and the input itself for values."""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
from torch import Tensor, nn

from . import _official_linear as _official
from ._checks import fills_grid, flag, one_of, positive
from ._feature_maps import elu_plus_one
from ._grid import depthwise, reference_depthwise
from ._heads import merge_heads, split_heads
from ._kernel_attention import kernel_flops, weight_sums, weighted_values
from ._precision import widen, without_autocast
from ._saturation import wide_depthwise, wide_linear, within_range
from ._two_forms import ours_or_official
from .base import AttentionLayer, CallShape, Geometry
from .capabilities import Capabilities
from .registry import register_attention

_LEPE_SIZE = 3
_BASE = 10_000.0
_LOG2_E = math.log2(math.e)
_COMPLEX = {torch.float32: torch.complex64, torch.float64: torch.complex128}


@register_attention(
    "mlla",
    title="MLLA linear attention layer",
    source="Han et al., 2024, arXiv:2405.16605",
    family="kernel",
    capabilities=Capabilities(
        needs_grid=True, position_free=False, heads_independent=False, scopes=("layer",)
    ),
)
class Mlla(AttentionLayer):
    """elu + 1 features, rotated in the numerator, around values that nothing has projected.

        q, k  = qk(x);  phi = elu + 1
        out_i = mean_j (R_i phi(q_i)) . (R_j phi(k_j)) x_j / (mean_j phi(q_i) . phi(k_j) + eps)
        out   = out + lepe(x)

    R turns all C channels together, before they are split into heads: C / 4 frequencies 10000^(-4 t
    / C) for rows, and as many for columns, so heads differ in how far they see. The block that MLLA
    puts around it (projection in, convolution, gate, projection out) is not part of the mechanism.

    Hazards:
        - The numerator is rotated and the denominator is not: weights may be negative and do not
          sum to 1, so outputs have no bound. Those beyond float16's range stop at its largest
          number.

    Differences:
        - The block around it (projection in, convolution, gate, projection out) is left out: it is
          the authors' block and not their attention.

    Args:
        geometry: the shape to build for; value_dim must be head_dim, and C a multiple of 4.
        qk_bias: whether qk has a bias.
        eps: added to the mean weight.
        implementation: ``"auto"``, or ``"official"``: the authors' operators, to compare speeds.
    """

    def __init__(
        self,
        geometry: Geometry,
        qk_bias: bool = True,
        eps: float = 1e-6,
        implementation: str = "auto",
    ) -> None:
        super().__init__(geometry)
        self.implementation = ours_or_official(self.name, implementation)
        one_of(self.name, "geometry.value_dim", geometry.value_dim, (geometry.head_dim,))
        self.eps = positive(self.name, "eps", eps)
        channels = geometry.embed_dim
        if channels % 4:
            raise ValueError(
                f"{self.name}: num_heads * head_dim is {channels}; a multiple of 4 is needed, as "
                "pairs of channels turn by row and by column."
            )
        self.qk = nn.Linear(channels, 2 * channels, bias=flag(self.name, "qk_bias", qk_bias))
        self.lepe = depthwise(channels, _LEPE_SIZE)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) -> (B, N, C)."""
        grid = self.geometry.grid
        fills_grid(self.name, x.shape[1], grid)
        with without_autocast(x.device.type):
            v = widen(x)
            mix = self._official if self.implementation == "official" else self._mix
            mixed = mix(wide_linear(v, self.qk), v, turns(grid, x.shape[-1], v.dtype, x.device))
            return within_range(mixed + wide_depthwise(v, self.lepe, grid), x.dtype)

    def _mix(self, qk: Tensor, v: Tensor, turn: Tensor) -> Tensor:
        """(B, N, 2 C), (B, N, C), (N, C / 2) -> (B, N, C)."""
        phi_q, phi_k = (_features(part) for part in qk.chunk(2, dim=-1))
        normaliser = weight_sums(self._split(phi_q), self._split(phi_k)) + self.eps * v.shape[1]
        turned_q, turned_k = (self._split(_rotate(phi, turn)) for phi in (phi_q, phi_k))
        return merge_heads(weighted_values(turned_q, turned_k, self._split(v)) / normaliser)

    def _official(self, qk: Tensor, v: Tensor, turn: Tensor) -> Tensor:
        q, k = qk.chunk(2, dim=-1)
        return _official.mlla(q, k, v, turn, num_heads=self.geometry.num_heads, eps=self.eps)

    def _split(self, x: Tensor) -> Tensor:
        return split_heads(x, self.geometry.num_heads)

    def reference(self, x: Tensor) -> Tensor:
        """The N x N weights written out, with sines and cosines of each channel's own angle."""
        q, k = self.qk(x).chunk(2, dim=-1)
        phi_q, phi_k = (torch.where(y > 0, y + 1, y.clamp(max=0).exp()) for y in (q, k))
        share = self._split(phi_q) @ self._split(phi_k).mT / x.shape[1]
        turned_q, turned_k = (self._reference_rotate(phi) for phi in (phi_q, phi_k))
        turned = self._split(turned_q) @ self._split(turned_k).mT / x.shape[1]
        mixed = turned @ self._split(x) / (share.sum(dim=-1, keepdim=True) + self.eps)
        return merge_heads(mixed) + reference_depthwise(x, self.lepe, self.geometry.grid)

    def _reference_rotate(self, phi: Tensor) -> Tensor:
        token = torch.arange(phi.shape[1], dtype=phi.dtype, device=phi.device)
        columns, per_axis = self.geometry.grid[1], phi.shape[-1] // 4
        row, column = token.div(columns, rounding_mode="floor"), token.remainder(columns)
        rotated = []
        for pair in range(2 * per_axis):
            place = row if pair < per_axis else column
            angle = place * _BASE ** -(pair % per_axis / per_axis)
            x0, x1 = phi[..., 2 * pair], phi[..., 2 * pair + 1]
            rotated += [x0 * angle.cos() - x1 * angle.sin(), x0 * angle.sin() + x1 * angle.cos()]
        return torch.stack(rotated, dim=-1)

    def flops(self, shape: CallShape) -> int:
        """The projection, depthwise convolution, and kernel attention with D features."""
        channels, tokens = shape.num_heads * shape.head_dim, shape.batch_size * shape.query_len
        own = 2 * tokens * channels * (2 * channels + _LEPE_SIZE**2)
        return own + kernel_flops(shape, shape.head_dim)

    def extra_elements(self, shape: CallShape, *, backward: bool) -> int:
        """Features, turned features and what heads need in one piece."""
        return (20 if backward else 10) * shape.num_tokens * shape.head_dim


def _features(x: Tensor) -> Tensor:
    """elu(x) + 1 as `_feature_maps.elu_plus_one` has it, with one tensor kept instead of three."""
    if torch.compiler.is_compiling():  # which fuses the formula, and knows its derivative
        return elu_plus_one(x)
    features: Tensor = _EluPlusOne.apply(x)  # type: ignore[no-untyped-call]
    return features


class _EluPlusOne(torch.autograd.Function):
    """The derivative is exp(x) below 0 and 1 above: the output itself, where it is below 1."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = (x * _LOG2_E).clamp_(max=0.0).exp2_()  # a third of the time of exp
        torch.maximum(y, x + 1, out=y)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        wanted: Tensor = gradient * y.clamp(max=1.0)
        return wanted


@functools.lru_cache(maxsize=8)
def turns(grid: tuple[int, int], channels: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """One unit complex number per token and pair of channels: (N, C / 2).

    Frequencies run from 1 down to just above 1/10000, which is left out. Angles are taken in
    float64: their rounding would grow with the position.
    """
    # A table first made under inference mode would be of no use to a later backward pass.
    with torch.inference_mode(False):
        per_axis = channels // 4
        frequency = _BASE ** -(torch.arange(per_axis, dtype=torch.float64) / per_axis)
        rows, columns = (torch.arange(size, dtype=torch.float64) for size in grid)
        by_row = (rows[:, None, None] * frequency).expand(*grid, -1)
        by_column = (columns[None, :, None] * frequency).expand(*grid, -1)
        angle = torch.cat((by_row, by_column), dim=-1).flatten(0, 1)
        return torch.polar(torch.ones_like(angle), angle).to(device, _COMPLEX[dtype])


def _rotate(phi: Tensor, turn: Tensor) -> Tensor:
    """(B, N, C) by (N, C / 2) turns of adjacent channels."""
    pairs = torch.view_as_complex(torch.unflatten(phi, -1, (-1, 2)))
    return torch.view_as_real(pairs * turn).flatten(-2)
