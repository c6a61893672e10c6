"""PolaFormer++: exponential features of like and unlike signs, rotated by place; a layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..base import AttentionLayer, CallShape, Geometry
from ..capabilities import GRID_LAYER
from ..checks import fills_grid, one_of, positive
from ..maths.heads import merge_heads, split_heads
from ..maths.rotary import reference_rotate, rotate
from ..maths.vision.grid import convolve_on_grid, depthwise, reference_depthwise
from ..precision import float16_in_float32, in_wide_precision, widen
from ..registry import register_attention

_LEPE_SIZE = 5
_LEAST_SHARE = 1e-12
"""Smallest share of the largest features' result; the square of its inverse is still a float32."""
_LARGEST = 20.0
"""The largest exponent of a feature. Small features keep their digits, and the square of a product
of two features does not overflow float32."""


@register_attention(
    "polaformer_pp",
    title="PolaFormer++ layer",
    source="Meng et al., 2025, https://github.com/ZacharyMeng/PolaFormerPP",
    family="kernel",
    capabilities=GRID_LAYER,
)
class PolaformerPP(AttentionLayer):
    """PolaFormer with learned exponentials for powers, and rotary positions in the numerator.

        q, k, v, g  = qkvg(x)
        phi_like(q)   = exp(sigmoid(s1) [relu(q); relu(-q)]) - 1                  (2 D features)
        phi_unlike(q) = exp(sigmoid(s2) [relu(-q); relu(q)]) - 1
        phi(k)        = exp([relu(k); relu(-k)]) - 1
        mix(phi, v)_i = mean_j (R_i phi(q_i)) . (R_j phi(k_j)) v_j / z_i
        z_i           = mean_j phi(q_i) . phi(k_j) + eps
        out           = proj(([mix(phi_like, v1); mix(phi_unlike, v2)] + lepe(v)) * g)

    v1 and v2 are the halves of v's channels, R turns all 2 D features of a head by the token's
    row and column, and s1, s2 are learned per head and feature. There is no norm.

    Where exponents of a query, or of a head's keys, are above 20, all of them are taken relative to
    the largest less 20, which cancels in the quotient, eps included. What does not cancel: as the
    numerator is rotated and the denominator is not, their quotient has no bound, and a sum of
    weights under 1e-12 of what the largest features could give is taken for that much.

    Hazards:
        - The numerator is rotated and the denominator is not: weights may be negative, and outputs
          have no bound. Those beyond float16's range stop at its largest number.
        - A query of zeros has no features: its output is zero.

    Differences:
        - The authors' code takes the exponentials as they are, and overflows float32 for entries
          above 88; here the largest is divided out.

    Args:
        geometry: the shape to build for; value_dim must be head_dim, which must be even.
        eps: added to the mean weight.
    """

    def __init__(self, geometry: Geometry, eps: float = 1e-6) -> None:
        super().__init__(geometry)
        one_of(self.name, "geometry.value_dim", geometry.value_dim, (geometry.head_dim,))
        if geometry.head_dim % 2:
            raise ValueError(
                f"{self.name}: head_dim is {geometry.head_dim}; an even number is needed, as "
                "pairs of its 2 head_dim features turn by row and by column."
            )
        self.eps = positive(self.name, "eps", eps)
        channels, heads = geometry.embed_dim, geometry.num_heads
        self.s1 = nn.Parameter(torch.zeros(heads, 2 * geometry.head_dim))
        self.s2 = nn.Parameter(torch.zeros(heads, 2 * geometry.head_dim))
        self.qkvg = nn.Linear(channels, 4 * channels)
        self.lepe = depthwise(channels, _LEPE_SIZE)
        self.proj = nn.Linear(channels, channels)

    @float16_in_float32
    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) -> (B, N, C)."""
        grid = self.geometry.grid
        fills_grid(self.name, x.shape[1], grid)
        q, k, v, gate = self.qkvg(x).chunk(4, dim=-1)
        mixed = merge_heads(self._mix(*(self._split(part) for part in (q, k, v))))
        local = convolve_on_grid(v, self.lepe, grid)
        return self.proj((mixed + local) * gate)  # type: ignore[no-any-return]

    def _split(self, x: Tensor) -> Tensor:
        return split_heads(x, self.geometry.num_heads)

    @in_wide_precision
    def _mix(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(B, H, N, D), (B, H, N, D), (B, H, N, D) -> (B, H, N, D)."""
        dim, grid = 2 * q.shape[-1], self.geometry.grid
        exponents = torch.cat((k.relu(), (-k).relu()), dim=-1)
        top_k = exponents.detach().amax(dim=(-2, -1), keepdim=True)
        above_k = _above(top_k)
        phi_k = _expm1_less(exponents, above_k)
        mean_k = phi_k.mean(dim=-2).unsqueeze(-1)  # (B, H, 2 D, 1)
        turned_k = rotate(phi_k, grid, dim).transpose(-2, -1) / k.shape[-2]
        first = -(-v.shape[-1] // 2)
        positive_q, negative_q = q.relu(), (-q).relu()
        mixed = []
        for halves, s, values in (
            ((positive_q, negative_q), self.s1, v[..., :first]),
            ((negative_q, positive_q), self.s2, v[..., first:]),
        ):
            slope = widen(s).to(q.dtype).sigmoid()[:, None]
            exponents = torch.cat(halves, dim=-1) * slope
            top_q = exponents.detach().amax(dim=-1, keepdim=True)
            above_q = _above(top_q)
            phi_q = _expm1_less(exponents, above_q)
            normaliser = phi_q @ mean_k + self.eps * (-above_q - above_k).exp()
            least = _LEAST_SHARE * ((top_q - above_q) + (top_k - above_k)).exp()
            numerator = rotate(phi_q, grid, dim) @ (turned_k @ values)
            mixed.append(numerator / torch.maximum(normaliser, least))
        return torch.cat(mixed, dim=-1)

    def reference(self, x: Tensor) -> Tensor:
        """Both N x N matrices of weights written out, with exponentials as they are."""
        grid, dim = self.geometry.grid, 2 * self.geometry.head_dim
        q, k, v, gate = self.qkvg(x).chunk(4, dim=-1)
        heads_q, heads_k, heads_v = (self._split(part) for part in (q, k, v))
        up_q, down_q = heads_q.clamp(min=0), -heads_q.clamp(max=0)
        phi_k = torch.cat((heads_k.clamp(min=0), -heads_k.clamp(max=0)), dim=-1).exp() - 1
        mixed = []
        for halves, s, values in zip(
            ((up_q, down_q), (down_q, up_q)),
            (self.s1, self.s2),
            heads_v.tensor_split(2, dim=-1),
            strict=True,
        ):
            slope = 1 / (1 + (-s[:, None]).exp())
            phi_q = (torch.cat(halves, dim=-1) * slope).exp() - 1
            share = phi_q @ phi_k.mT / x.shape[1]
            turned = reference_rotate(phi_q, grid, dim) @ reference_rotate(phi_k, grid, dim).mT
            mean = turned @ values / x.shape[1]
            mixed.append(mean / (share.sum(dim=-1, keepdim=True) + self.eps))
        local = reference_depthwise(v, self.lepe, grid)
        return self.proj((merge_heads(torch.cat(mixed, dim=-1)) + local) * gate)  # type: ignore[no-any-return]

    def flops(self, shape: CallShape) -> int:
        """Projections, depthwise convolution, and kernel attention of 2 D features, v halved."""
        channels, tokens = shape.num_heads * shape.head_dim, shape.batch_size * shape.query_len
        features = 2 * shape.head_dim
        mix = 2 * features * shape.num_tokens * (2 * shape.head_dim + 2)
        project = 2 * tokens * channels * 5 * channels
        return project + 2 * tokens * channels * _LEPE_SIZE**2 + mix


def _above(top: Tensor) -> Tensor:
    """Offset taken off exponents whose largest is this."""
    return (top - _LARGEST).clamp(min=0)


def _expm1_less(x: Tensor, above: Tensor) -> Tensor:
    """(exp(x) - 1) / exp(above) of 0 <= x <= above + 20."""
    return (x - above).expm1() - (-above).expm1()
