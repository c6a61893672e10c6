"""The softmax layer of NaLaFormer's later stages: `nala_layer` around softmax attention."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from ..base import AttentionLayer, CallShape, Geometry
from ..capabilities import GRID_LAYER
from ..checks import fills_grid, one_of
from ..maths.grid import convolve_on_grid, depthwise, reference_depthwise
from ..maths.heads import merge_heads, split_heads
from ..maths.rotary import reference_rotate, rope_if_it_fits, rotate
from ..precision import float16_in_float32, in_wide_precision
from ..registry import register_attention
from .softmax import explicit_softmax

_LEPE_SIZE = 5


@register_attention(
    "nala_vanilla",
    title="NaLaFormer's softmax layer",
    source="Meng et al., 2026, NaLaFormer, arXiv:2506.21137",
    family="exact",
    capabilities=GRID_LAYER,
)
class NalaVanilla(AttentionLayer):
    """Attention of stages 3 and 4 of the released backbones, in the place of `nala_layer`.

        q, k, v, g = qkvg(x)
        out = proj(norm(softmax(R q (R k)^T / sqrt(D)) v + lepe(v)) * silu(g))

    R turns pairs of channels by the token's row and column, in queries and keys alike.

    Hazards:
        - Those of softmax attention: time grows with N x M.

    Differences:
        - The paper's tables call the whole backbone NaLaFormer; stages 3 and 4 of the released one
          are this layer.

    Args:
        geometry: the shape to build for; value_dim must be head_dim.
        rope: whether to turn; head_dim must then be a multiple of 4.
    """

    def __init__(self, geometry: Geometry, rope: bool = True) -> None:
        super().__init__(geometry)
        one_of(self.name, "geometry.value_dim", geometry.value_dim, (geometry.head_dim,))
        self.rope = rope_if_it_fits(self.name, rope, geometry.head_dim)
        channels = geometry.embed_dim
        self.qkvg = nn.Linear(channels, 4 * channels)
        self.lepe = depthwise(channels, _LEPE_SIZE)
        self.norm = nn.LayerNorm(channels)
        self.proj = nn.Linear(channels, channels)

    @float16_in_float32
    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) -> (B, N, C)."""
        fills_grid(self.name, x.shape[1], self.geometry.grid)
        q, k, v, gate = self.qkvg(x).chunk(4, dim=-1)
        mixed = self._mix(*(split_heads(part, self.geometry.num_heads) for part in (q, k, v)))
        local = convolve_on_grid(v, self.lepe, self.geometry.grid)
        normed = self.norm(merge_heads(mixed) + local)
        return self.proj(normed * functional.silu(gate))  # type: ignore[no-any-return]

    @in_wide_precision
    def _mix(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if self.rope:
            q, k = (rotate(part, self.geometry.grid, q.shape[-1]) for part in (q, k))
        return functional.scaled_dot_product_attention(q, k, v)

    def reference(self, x: Tensor) -> Tensor:
        """With rotation, weights, convolution, norm and gate written out."""
        q, k, v, gate = self.qkvg(x).chunk(4, dim=-1)
        heads = [split_heads(part, self.geometry.num_heads) for part in (q, k, v)]
        if self.rope:
            heads[:2] = [
                reference_rotate(part, self.geometry.grid, part.shape[-1]) for part in heads[:2]
            ]
        mixed = merge_heads(explicit_softmax(*heads, causal=False))
        mixed = mixed + reference_depthwise(v, self.lepe, self.geometry.grid)
        centred = mixed - mixed.mean(dim=-1, keepdim=True)
        spread = (centred.pow(2).mean(dim=-1, keepdim=True) + self.norm.eps).sqrt()
        normed = centred / spread * self.norm.weight + self.norm.bias
        return self.proj(normed * gate / (1 + (-gate).exp()))  # type: ignore[no-any-return]

    def flops(self, shape: CallShape) -> int:
        """Projections, depthwise convolution, scores and the mix of values."""
        channels, tokens = shape.num_heads * shape.head_dim, shape.batch_size * shape.query_len
        project = 2 * tokens * channels * 5 * channels
        mix = 4 * shape.num_pairs * shape.head_dim
        return project + 2 * tokens * channels * _LEPE_SIZE**2 + mix
