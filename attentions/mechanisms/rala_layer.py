"""RALA's layer: projections, a local convolution of v and an output gate."""

from __future__ import annotations

from torch import Tensor, nn

from ..base import AttentionLayer, CallShape, Geometry
from ..capabilities import GRID_LAYER
from ..checks import fills_grid, one_of
from ..maths.grid import convolve_on_grid, depthwise, reference_depthwise
from ..maths.heads import merge_heads, split_heads
from ..precision import float16_in_float32
from ..registry import register_attention
from .rala import Rala

_LEPE_SIZE = 5


@register_attention(
    "rala_layer",
    title="RALA layer",
    source="Fan et al., 2024, arXiv:2411.07635",
    family="kernel",
    capabilities=GRID_LAYER,
)
class RalaLayer(AttentionLayer):
    """RALA with its projections, local position encoding and output gate.

        q, k, v, o = qkvo(x)
        out = proj((rala(q, k, v) + lepe(v)) * o)

    Hazards:
        - Those of its core, `rala`.

    Differences:
        - The paper writes phi(x) for the gate, the authors' code has a projection without an
          activation, and so has this.
        - The authors' backbones have this layer in stages 1 and 2 and softmax in 3 and 4: their
          accuracies are not those of this mechanism alone.

    Args:
        geometry: the shape to build for; value_dim must be head_dim, a multiple of 4 with ``rope``.
        rope: as for `Rala`.
        eps: as for `Rala`.
    """

    def __init__(self, geometry: Geometry, rope: bool = True, eps: float = 1e-6) -> None:
        super().__init__(geometry)
        one_of(self.name, "geometry.value_dim", geometry.value_dim, (geometry.head_dim,))
        self.core = Rala(geometry, rope, eps)
        channels = geometry.embed_dim
        self.qkvo = nn.Linear(channels, 4 * channels)
        self.lepe = depthwise(channels, _LEPE_SIZE)
        self.proj = nn.Linear(channels, channels)

    @float16_in_float32
    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) -> (B, N, C)."""
        fills_grid(self.name, x.shape[1], self.geometry.grid)
        q, k, v, gate = self.qkvo(x).chunk(4, dim=-1)
        mixed = self.core(*(split_heads(part, self.geometry.num_heads) for part in (q, k, v)))
        local = convolve_on_grid(v, self.lepe, self.geometry.grid)
        return self.proj((merge_heads(mixed) + local) * gate)  # type: ignore[no-any-return]

    def reference(self, x: Tensor) -> Tensor:
        """Around the core's reference, with the convolution written out."""
        q, k, v, gate = self.qkvo(x).chunk(4, dim=-1)
        heads = (split_heads(part, self.geometry.num_heads) for part in (q, k, v))
        mixed = merge_heads(self.core.reference(*heads))
        mixed = mixed + reference_depthwise(v, self.lepe, self.geometry.grid)
        return self.proj(mixed * gate)  # type: ignore[no-any-return]

    def flops(self, shape: CallShape) -> int:
        """Projections, depthwise convolution and the core."""
        channels, tokens = shape.num_heads * shape.head_dim, shape.batch_size * shape.query_len
        project = 2 * tokens * channels * 5 * channels
        return project + 2 * tokens * channels * _LEPE_SIZE**2 + self.core.flops(shape)
