"""FLatten's layer without its projections: focused attention, and a depthwise convolution of v.

A module that workers import as a plugin: only the comparison needs this core under a name.
"""

from __future__ import annotations

from torch import Tensor, nn

from attentions import Attention, CallShape, Capabilities, Geometry, register_attention
from attentions.mechanisms.flatten import Flatten, FlattenLayer

NAME = "flatten_layer_core"


@register_attention(
    NAME,
    title="FLatten layer without projections",
    source=FlattenLayer.source,
    family=FlattenLayer.family,
    capabilities=Capabilities(
        needs_grid=True,
        position_free=False,
        heads_independent=False,
        memory_layout="bnhd",  # as the layer's projections leave them, in both forms
    ),
)
class FlattenLayerCore(Attention):
    """What `FlattenLayer` does between its projections, and by its own code.

        out = flatten(q, k, v) + dwc(v)

    Args:
        geometry: the shape to build for; value_dim must be head_dim.
        focusing_factor, norm_over, eps, kernel_size, implementation: the layer's.
    """

    def __init__(
        self,
        geometry: Geometry,
        focusing_factor: float = 3,
        norm_over: str = "all_heads",
        eps: float = 1e-6,
        kernel_size: int = 5,
        implementation: str = "auto",
    ) -> None:
        super().__init__(geometry)
        self.layer = FlattenLayer(
            geometry,
            focusing_factor=focusing_factor,
            norm_over=norm_over,
            eps=eps,
            kernel_size=kernel_size,
            implementation=implementation,
        )
        self._leave_out_projections()

    def _leave_out_projections(self) -> None:
        """Their parameters are neither read nor given a gradient, and must not be counted."""
        for name in ("q", "kv", "proj"):
            setattr(self.layer, name, nn.Identity())
        del self.layer.positional_encoding

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(B, H, N, D) each, lying as (B, N, H, D) -> (B, H, N, D)."""
        tokens = (x.transpose(1, 2).flatten(2) for x in (q, k, v))  # (B, N, H * D), no copy
        mixed = self.layer.mix(*tokens)
        return mixed.unflatten(2, (q.shape[1], -1)).transpose(1, 2)  # type: ignore[no-any-return]

    def flops(self, shape: CallShape) -> int:
        """Kernel attention with D features, and the convolution's taps."""
        convolved = shape.batch_size * shape.num_heads * shape.query_len * shape.head_dim
        return Flatten(self.geometry).flops(shape) + 2 * self.layer.kernel_size**2 * convolved
