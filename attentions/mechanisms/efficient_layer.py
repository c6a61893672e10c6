"""Efficient attention's layer: its projections and residual connection."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor, nn

from ..base import AttentionLayer, CallShape, Geometry
from ..capabilities import Capabilities
from ..checks import flag, one_of, whole
from ..inputs import mask_given
from ..maths.heads import merge_heads, split_heads
from ..precision import float16_in_float32
from ..registry import register_attention
from .efficient import Efficient


@register_attention(
    "efficient_layer",
    title="Efficient Attention layer",
    source="Shen et al., 2021, arXiv:1812.01243",
    family="kernel",
    capabilities=Capabilities(
        masks=frozenset({"padding"}),
        heads_independent=False,
        scopes=("layer",),
        exports=frozenset({"bidirectional"}),
    ),
)
class EfficientLayer(AttentionLayer):
    """Efficient Attention with its projections (1 x 1 convolutions) and its residual connection.

        out = proj(efficient(q(x), k(x), v(x))) + x

    Hazards:
        - Those of its core, `efficient`.

    Differences:
        - The authors' module adds its input to its output itself; ``residual=False`` leaves that to
          the model around it.

    Args:
        geometry: the shape to build for; value_dim must be head_dim.
        key_channels: of queries and keys over all heads; C if None.
        value_channels: of values over all heads; C if None.
        residual: whether x is added, as the authors' module does itself.
    """

    def __init__(
        self,
        geometry: Geometry,
        key_channels: int | None = None,
        value_channels: int | None = None,
        residual: bool = True,
    ) -> None:
        super().__init__(geometry)
        one_of(self.name, "geometry.value_dim", geometry.value_dim, (geometry.head_dim,))
        channels, heads = geometry.embed_dim, geometry.num_heads
        self.key_channels = self._over_heads("key_channels", key_channels)
        self.value_channels = self._over_heads("value_channels", value_channels)
        self.residual = flag(self.name, "residual", residual)
        self.core = Efficient(
            replace(
                geometry,
                head_dim=self.key_channels // heads,
                value_dim=self.value_channels // heads,
            )
        )
        self.q = nn.Linear(channels, self.key_channels)
        self.k = nn.Linear(channels, self.key_channels)
        self.v = nn.Linear(channels, self.value_channels)
        self.proj = nn.Linear(self.value_channels, channels)

    def _over_heads(self, argument: str, channels: int | None) -> int:
        heads = self.geometry.num_heads
        if channels is None:
            return self.geometry.embed_dim
        if whole(self.name, argument, channels, heads) % heads:
            raise ValueError(
                f"{self.name}: {argument} is {channels}; a multiple of num_heads, {heads}, is "
                "needed."
            )
        return channels

    @float16_in_float32
    def forward(self, x: Tensor, *, key_mask: Tensor | None = None) -> Tensor:
        """(B, N, C) -> (B, N, C)."""
        out: Tensor = self.proj(merge_heads(self.core(*self._heads(x), **mask_given(key_mask))))
        return out + x if self.residual else out

    def _heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = (
            split_heads(part(x), self.geometry.num_heads) for part in (self.q, self.k, self.v)
        )
        return q, k, v

    def reference(self, x: Tensor) -> Tensor:
        """Around the core's reference."""
        out: Tensor = self.proj(merge_heads(self.core.reference(*self._heads(x))))
        return out + x if self.residual else out

    def flops(self, shape: CallShape) -> int:
        """Projections and the core."""
        tokens, channels = shape.batch_size * shape.query_len, shape.num_heads * shape.head_dim
        project = 4 * tokens * channels * (self.key_channels + self.value_channels)
        return project + self.core.flops(self._core_shape(shape))

    def _core_shape(self, shape: CallShape) -> CallShape:
        g = self.core.geometry
        return replace(shape, head_dim=g.head_dim, value_dim=g.value_dim)
