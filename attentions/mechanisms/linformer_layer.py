"""Linformer's layer: the core between its projections of channels."""

from __future__ import annotations

from torch import Tensor, nn

from ..base import AttentionLayer, CallShape, Geometry
from ..capabilities import Capabilities
from ..checks import flag, one_of
from ..maths.heads import merge_heads, split_heads
from ..precision import float16_in_float32
from ..registry import register_attention
from .linformer import Linformer


@register_attention(
    "linformer_layer",
    title="Linformer layer",
    source="Wang et al., 2020, arXiv:2006.04768",
    family="low_rank",
    capabilities=Capabilities(
        position_free=False,
        heads_independent=False,
        scopes=("layer",),
        exports=frozenset({"bidirectional"}),
    ),
)
class LinformerLayer(AttentionLayer):
    """Linformer with its projections of channels, as in the common third-party code.

        out = to_out(linformer(to_q(x), to_k(x), to_v(x)))

    Hazards:
        - Those of its core, `linformer`.

    Differences:
        - The common third-party code's ``share_kv`` makes keys and values the same projection of
          channels, too; here that is ``values_are_keys``.

    Args:
        geometry: the shape to build for; value_dim must be head_dim.
        projected_len: as for `Linformer`.
        share_kv: as for `Linformer`.
        values_are_keys: to_v is to_k as well. The third-party code's ``share_kv`` does both at
            once; in the paper key-value sharing is that of E and F alone.
    """

    def __init__(
        self,
        geometry: Geometry,
        projected_len: int = 256,
        share_kv: bool = False,
        values_are_keys: bool = False,
    ) -> None:
        super().__init__(geometry)
        one_of(self.name, "geometry.value_dim", geometry.value_dim, (geometry.head_dim,))
        channels = geometry.embed_dim
        self.core = Linformer(geometry, projected_len, share_kv)
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(channels, channels, bias=False)
        self.to_v = None
        if not flag(self.name, "values_are_keys", values_are_keys):
            self.to_v = nn.Linear(channels, channels, bias=False)
        self.to_out = nn.Linear(channels, channels)

    @float16_in_float32
    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) -> (B, N, C)."""
        return self.to_out(merge_heads(self.core(*self._heads(x))))  # type: ignore[no-any-return]

    def _heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        heads = self.geometry.num_heads
        q, k = split_heads(self.to_q(x), heads), split_heads(self.to_k(x), heads)
        return q, k, k if self.to_v is None else split_heads(self.to_v(x), heads)

    def reference(self, x: Tensor) -> Tensor:
        """Around the core's reference."""
        mixed = self.core.reference(*self._heads(x))
        return self.to_out(merge_heads(mixed))  # type: ignore[no-any-return]

    def flops(self, shape: CallShape) -> int:
        """Projections of channels, and the core."""
        channels, tokens = shape.num_heads * shape.head_dim, shape.batch_size * shape.query_len
        num_projections = 3 if self.to_v is None else 4
        return 2 * num_projections * tokens * channels**2 + self.core.flops(shape)
