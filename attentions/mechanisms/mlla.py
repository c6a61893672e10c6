"""MLLA's linear attention: rotary positions across all heads, and the input itself for values."""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn

from .. import _official_linear as _official
from .._engine import attention_by_tiles
from .._engine_elu import EluPlusOne
from .._engine_forms import by_tiles, known_form
from .._engine_kernel import Kernel
from .._saturation import wide_depthwise, wide_linear, within_range
from ..base import AttentionLayer, CallShape, Geometry
from ..capabilities import Capabilities
from ..checks import fills_grid, flag, one_of, positive
from ..maths.feature_maps import elu_plus_one
from ..maths.grid import depthwise, reference_depthwise
from ..maths.heads import merge_heads, split_heads
from ..maths.kernel_attention import divide, kernel_flops, weight_sums, weighted_values
from ..precision import widen, without_autocast
from ..registry import register_attention

_LEPE_SIZE = 3
_BASE = 10_000.0
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
        implementation: ``"auto"``, ``"plain"``, or ``"official"``: the authors' operators.
    """

    def __init__(
        self,
        geometry: Geometry,
        qk_bias: bool = True,
        eps: float = 1e-6,
        implementation: str = "auto",
    ) -> None:
        super().__init__(geometry)
        self.implementation = known_form(self.name, implementation)
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
            tokens = widen(x)
            parts = (*wide_linear(tokens, self.qk).chunk(2, dim=-1), tokens)
            q, k, v = (split_heads(part, self.geometry.num_heads) for part in parts)
            if self._has_tiles(q, k, v) and not torch.is_grad_enabled():
                onto = split_heads(wide_depthwise(tokens, self.lepe, grid), q.shape[1])
                kernel = self._kernel(q)
                both = attention_by_tiles(kernel, q, k, v, plain=self._plain, onto=onto)
                return within_range(merge_heads(both), x.dtype)
            mixed = merge_heads(self._attend(q, k, v))
            return within_range(mixed + wide_depthwise(tokens, self.lepe, grid), x.dtype)

    def _has_tiles(self, q: Tensor, k: Tensor, v: Tensor) -> bool:
        return q.shape[-1] % 2 == 0 and by_tiles(self.implementation, None, q, k, v)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(B, H, N, D) each -> (B, H, N, D)."""
        if self.implementation == "official":
            return self._official(q, k, v)
        if self._has_tiles(q, k, v):
            return attention_by_tiles(self._kernel(q), q, k, v, plain=self._plain)
        return self._plain(q, k, v)

    def _plain(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        phi_q, phi_k = elu_plus_one(q), elu_plus_one(k)
        normaliser = weight_sums(phi_q, phi_k) + self.eps * v.shape[-2]
        turned_q, turned_k = (self._rotate(phi) for phi in (phi_q, phi_k))
        return divide(weighted_values(turned_q, turned_k, v), normaliser)

    def _kernel(self, q: Tensor) -> Kernel:
        features, (_, num_heads, num_tokens, head_dim) = EluPlusOne(), q.shape
        return Kernel(
            queries=features,
            keys=features,
            num_features=head_dim,
            eps=self.eps * num_tokens,
            turn=torch.unflatten(self._turns(q), 1, (num_heads, -1)).transpose(0, 1),
        )

    def _official(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        tokens_q, tokens_k, x = (merge_heads(part) for part in (q, k, v))
        num_heads, turn = self.geometry.num_heads, self._turns(q)
        mixed = _official.mlla(tokens_q, tokens_k, x, turn, num_heads=num_heads, eps=self.eps)
        return split_heads(mixed, num_heads)

    def _turns(self, like: Tensor) -> Tensor:
        channels = like.shape[1] * like.shape[-1]
        return turns(self.geometry.grid, channels, like.dtype, like.device)

    def _rotate(self, phi: Tensor) -> Tensor:
        """(B, H, N, D), by the turns of adjacent channels, which may lie in two heads."""
        pairs = torch.view_as_complex(torch.unflatten(merge_heads(phi), -1, (-1, 2)))
        turned = torch.view_as_real(pairs * self._turns(phi)).flatten(-2)
        return split_heads(turned, phi.shape[1])

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
