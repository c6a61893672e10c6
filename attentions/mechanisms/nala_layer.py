"""NaLa's layer: projections, a local convolution of v, norm and gate."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from ..base import AttentionLayer, CallShape, Geometry
from ..capabilities import GRID_LAYER
from ..checks import fills_grid, one_of
from ..maths.grid import convolve_on_grid, depthwise, reference_depthwise
from ..maths.heads import merge_heads, split_heads
from ..precision import float16_in_float32
from ..registry import register_attention
from .nala import Nala

_LEPE_SIZE = 5


@register_attention(
    "nala_layer",
    title="NaLa layer",
    source="Meng et al., 2026, NaLaFormer, arXiv:2506.21137",
    family="kernel",
    capabilities=GRID_LAYER,
)
class NalaLayer(AttentionLayer):
    """NaLa with its projections, local position encoding, norm and gate.

        q, k, v, g = qkvg(x)
        out = proj(norm(nala(q, k, v) + lepe(v)) * silu(g))

    Hazards:
        - Those of its core, `nala`; the norm behind it hides that weights do not sum to 1.

    Differences:
        - The released backbones have this layer in stages 1 and 2 only, and `nala_vanilla` in
          stages 3 and 4: their accuracies are not those of this mechanism alone.
        - The authors' code has a local position encoding that the paper's first version does not
          name.

    Args:
        geometry: the shape to build for; value_dim must be head_dim.
        rope: as for `Nala`, but on unless said otherwise.
        lam: as for `Nala`.
        tau: as for `Nala`.
        key_power: as for `Nala`.
        eps: as for `Nala`.
    """

    def __init__(
        self,
        geometry: Geometry,
        rope: bool = True,
        lam: float = 3.0,
        tau: float = 0.5,
        key_power: float = 3.0,
        eps: float = 1e-6,
    ) -> None:
        super().__init__(geometry)
        one_of(self.name, "geometry.value_dim", geometry.value_dim, (geometry.head_dim,))
        self.core = Nala(geometry, rope, lam, tau, key_power, eps)
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
        mixed = self.core(*(split_heads(part, self.geometry.num_heads) for part in (q, k, v)))
        local = convolve_on_grid(v, self.lepe, self.geometry.grid)
        normed = self.norm(merge_heads(mixed) + local)
        return self.proj(normed * functional.silu(gate))  # type: ignore[no-any-return]

    def reference(self, x: Tensor) -> Tensor:
        """Around the core's reference, with convolution, norm and gate written out."""
        q, k, v, gate = self.qkvg(x).chunk(4, dim=-1)
        heads = (split_heads(part, self.geometry.num_heads) for part in (q, k, v))
        mixed = merge_heads(self.core.reference(*heads))
        mixed = mixed + reference_depthwise(v, self.lepe, self.geometry.grid)
        centred = mixed - mixed.mean(dim=-1, keepdim=True)
        spread = (centred.pow(2).mean(dim=-1, keepdim=True) + self.norm.eps).sqrt()
        normed = centred / spread * self.norm.weight + self.norm.bias
        return self.proj(normed * gate / (1 + (-gate).exp()))  # type: ignore[no-any-return]

    def flops(self, shape: CallShape) -> int:
        """Projections, depthwise convolution and the core."""
        channels, tokens = shape.num_heads * shape.head_dim, shape.batch_size * shape.query_len
        project = 2 * tokens * channels * 5 * channels
        return project + 2 * tokens * channels * _LEPE_SIZE**2 + self.core.flops(shape)
