"""MLLA's linear attention: rotary positions across all heads, and the input itself for values."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..base import AttentionLayer, CallShape, Geometry
from ..capabilities import GRID_LAYER, Capabilities
from ..checks import fills_grid, flag, one_of, positive
from ..maths.feature_maps import elu_plus_one
from ..maths.heads import merge_heads, split_heads
from ..maths.kernel_attention import kernel_flops
from ..maths.rotary import turns
from ..maths.vision.grid import convolve_on_grid, depthwise, reference_depthwise
from ..precision import float16_in_float32, in_wide_precision, wide_dtype
from ..registry import register_attention
from .linear import Linear

_LEPE_SIZE = 3
_BASE = 10_000.0


class _Mix(Linear):
    """The layer's core for an even head_dim: all channels turn together, then part into heads."""

    name = "mlla"
    capabilities = Capabilities()
    eps_on_mean = True

    def turn(self, q: Tensor, k: Tensor) -> Tensor:
        """Each token's place on the grid, (H, N, D / 2)."""
        g = self.geometry
        turn = turns(g.grid, g.embed_dim, wide_dtype(q.dtype), q.device, with_last=False)
        return torch.unflatten(turn, 1, (g.num_heads, -1)).transpose(0, 1)


@register_attention(
    "mlla",
    title="MLLA linear attention layer",
    source="Han et al., 2024, arXiv:2405.16605",
    family="kernel",
    capabilities=GRID_LAYER,
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
    """

    def __init__(
        self,
        geometry: Geometry,
        qk_bias: bool = True,
        eps: float = 1e-6,
    ) -> None:
        super().__init__(geometry)
        one_of(self.name, "geometry.value_dim", geometry.value_dim, (geometry.head_dim,))
        self.eps = positive(self.name, "eps", eps)
        self.mix = _Mix(geometry, eps)
        channels = geometry.embed_dim
        if channels % 4:
            raise ValueError(
                f"{self.name}: num_heads * head_dim is {channels}; a multiple of 4 is needed, as "
                "pairs of channels turn by row and by column."
            )
        self.qk = nn.Linear(channels, 2 * channels, bias=flag(self.name, "qk_bias", qk_bias))
        self.lepe = depthwise(channels, _LEPE_SIZE)

    @float16_in_float32
    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) -> (B, N, C)."""
        grid, num_heads = self.geometry.grid, self.geometry.num_heads
        fills_grid(self.name, x.shape[1], grid)
        q, k, v = (split_heads(part, num_heads) for part in (*self.qk(x).chunk(2, dim=-1), x))
        if q.shape[-1] % 2:
            turn = turns(grid, x.shape[-1], wide_dtype(x.dtype), x.device, with_last=False)
            mixed = self._with_pairs_in_two_heads(q, k, v, turn)
        else:
            mixed = self.mix(q, k, v)
        return merge_heads(mixed) + convolve_on_grid(x, self.lepe, grid)

    @in_wide_precision
    def _with_pairs_in_two_heads(self, q: Tensor, k: Tensor, v: Tensor, turn: Tensor) -> Tensor:
        """The same for an odd head_dim: adjacent channels may lie in two heads."""
        phi_q, phi_k = elu_plus_one(q), elu_plus_one(k)
        totals = phi_q @ phi_k.sum(dim=-2).unsqueeze(-1)
        pairs = (torch.unflatten(merge_heads(phi), -1, (-1, 2)) for phi in (phi_q, phi_k))
        turned_q, turned_k = (
            split_heads(
                torch.view_as_real(torch.view_as_complex(pair) * turn).flatten(-2), q.shape[1]
            )
            for pair in pairs
        )
        return turned_q @ (turned_k.mT @ v) / (totals + self.eps * v.shape[-2])

    def reference(self, x: Tensor) -> Tensor:
        """The N x N weights written out, with sines and cosines of each channel's own angle."""
        q, k = self.qk(x).chunk(2, dim=-1)
        phi_q, phi_k = (torch.where(y > 0, y + 1, y.masked_fill(y > 0, 0.0).exp()) for y in (q, k))
        turned_q, turned_k = (self._reference_rotate(phi) for phi in (phi_q, phi_k))
        phi_q, phi_k, turned_q, turned_k, v = (
            split_heads(part, self.geometry.num_heads)
            for part in (phi_q, phi_k, turned_q, turned_k, x)
        )
        share = phi_q @ phi_k.mT / x.shape[1]
        mixed = turned_q @ turned_k.mT / x.shape[1] @ v
        mixed = mixed / (share.sum(dim=-1, keepdim=True) + self.eps)
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
