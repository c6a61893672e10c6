"""PolaFormer's layer: projections, position encoding, reduced grid, convolution and gate."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from ..base import AttentionLayer, CallShape, Geometry
from ..capabilities import GRID_LAYER
from ..checks import fills_grid, flag, odd_width, one_of
from ..inputs import mask_given
from ..maths.heads import merge_heads, split_heads
from ..maths.pairs.masks import hide_tokens
from ..maths.vision.grid import convolve_on_grid, depthwise, reference_depthwise
from ..maths.vision.reduced_grid import ReducedGrid, reference_stretch, stretch
from ..precision import float16_in_float32
from ..registry import register_attention
from .polaformer import Polaformer


@register_attention(
    "polaformer_layer",
    title="PolaFormer layer",
    source="Meng et al., 2025, arXiv:2501.15061",
    family="kernel",
    capabilities=replace(GRID_LAYER, masks=frozenset({"padding"})),
)
class PolaformerLayer(AttentionLayer):
    """PolaFormer with its projections, position encoding, depthwise convolution and gate.

        q, g = qg(x);  k, v = kv(x)
        out = proj((polaformer(q, k + positional_encoding, v) + dwc(v)) * g)

    The gate is linear. Over the two halves of a head's channels it is what the paper writes as
    G^s and G^o. The depthwise convolution has one kernel per channel of a head, the same for every
    head. With ``sr_ratio`` r > 1 keys and values come from the grid shrunk by r in both
    directions, and for the convolution v is stretched back along the flattened grid, as in the
    authors' code. On a processor, float16 tokens are computed in float32; what leaves float16's
    range stops at its largest number.

    Hazards:
        - Those of its core, `polaformer`.
        - With ``sr_ratio`` above 1 the convolution's values are stretched along the flattened grid,
          as in `flatten_layer`.

    Differences:
        - The authors' Swin form takes the mask of shifted windows and does not use it; there is no
          such argument here.
        - The released PolaFormer-Swin has this layer in its first two stages only.

    Args:
        geometry: the shape to build for; value_dim must be head_dim.
        alpha: as for `Polaformer`.
        eps: as for `Polaformer`.
        kernel_size: width of the depthwise kernels, odd.
        sr_ratio: r; must divide both sides of the grid.
        qkv_bias: whether qg and kv have a bias.
    """

    def __init__(
        self,
        geometry: Geometry,
        alpha: float = 4,
        eps: float = 1e-6,
        kernel_size: int = 5,
        sr_ratio: int = 1,
        qkv_bias: bool = True,
    ) -> None:
        super().__init__(geometry)
        one_of(self.name, "geometry.value_dim", geometry.value_dim, (geometry.head_dim,))
        flag(self.name, "qkv_bias", qkv_bias)
        odd_width(self.name, "kernel_size", kernel_size)
        channels = geometry.embed_dim
        self.core = Polaformer(geometry, alpha, eps)
        self.reduced = ReducedGrid(self.name, channels, geometry.grid, sr_ratio)
        self.qg = nn.Linear(channels, 2 * channels, bias=qkv_bias)
        self.kv = nn.Linear(channels, 2 * channels, bias=qkv_bias)
        num_keys = geometry.seq_len // sr_ratio**2
        self.positional_encoding = nn.Parameter(torch.zeros(num_keys, channels))
        self.dwc = depthwise(geometry.head_dim, kernel_size)
        self.proj = nn.Linear(channels, channels)

    @float16_in_float32
    def forward(self, x: Tensor, *, key_mask: Tensor | None = None) -> Tensor:
        """(B, N, C) -> (B, N, C); hidden tokens are zeros to the convolution."""
        fills_grid(self.name, x.shape[1], self.geometry.grid)
        q, gate = self.qg(x).chunk(2, dim=-1)
        k, v = self.kv(self.reduced(x, key_mask)).chunk(2, dim=-1)
        given = (self._split(part) for part in (q, k + self.positional_encoding, v))
        mixed = self.core(*given, **mask_given(key_mask))
        heads = self._split(stretch(hide_tokens(v, key_mask), x.shape[1]))
        restored = convolve_on_grid(heads.flatten(0, 1), self.dwc, self.geometry.grid)
        mixed = mixed + torch.unflatten(restored, 0, heads.shape[:2])
        return self.proj(merge_heads(mixed) * gate)  # type: ignore[no-any-return]

    def _split(self, x: Tensor) -> Tensor:
        return split_heads(x, self.geometry.num_heads)

    def reference(self, x: Tensor) -> Tensor:
        """Around the core's reference, with patches, kernels and interpolation written out."""
        q, gate = self.qg(x).chunk(2, dim=-1)
        k, v = self.kv(self.reduced.reference(x)).chunk(2, dim=-1)
        mixed = self.core.reference(
            *(self._split(part) for part in (q, k + self.positional_encoding, v))
        )
        heads = self._split(reference_stretch(v, x.shape[1]))
        restored = [
            reference_depthwise(head, self.dwc, self.geometry.grid) for head in heads.unbind(1)
        ]
        return self.proj(merge_heads(mixed + torch.stack(restored, dim=1)) * gate)  # type: ignore[no-any-return]

    def flops(self, shape: CallShape) -> int:
        """Projections, shrinking convolution, the core and depthwise convolution."""
        channels, tokens = shape.num_heads * shape.head_dim, shape.batch_size * shape.query_len
        r = self.reduced.ratio
        project = 2 * channels**2 * (3 * tokens + 2 * tokens // r**2)
        restore = 2 * channels * self.dwc.weight.shape[-1] ** 2 * tokens
        core = self.core.flops(replace(shape, key_len=shape.key_len // r**2))
        return project + self.reduced.flops(tokens, channels) + restore + core
