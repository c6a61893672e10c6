"""FLatten's layer: projections, position encoding, reduced grid and depthwise convolution."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..base import AttentionLayer, CallShape, Geometry
from ..capabilities import GRID_LAYER
from ..checks import fills_grid, flag, odd_width, one_of
from ..inputs import mask_given
from ..maths.heads import merge_heads, split_heads
from ..maths.pairs.masks import hide_tokens
from ..maths.vision.grid import depthwise, image_of, reference_depthwise, tokens_of
from ..maths.vision.reduced_grid import ReducedGrid, reference_stretch, stretch
from ..precision import float16_in_float32
from ..registry import register_attention
from .flatten import Flatten


@register_attention(
    "flatten_layer",
    title="FLatten layer",
    source="Han et al., 2023, arXiv:2308.00442",
    family="kernel",
    capabilities=replace(GRID_LAYER, masks=frozenset({"padding"})),
)
class FlattenLayer(AttentionLayer):
    """FLatten with its projections, position encoding and depthwise rank restoration.

        out = proj(flatten(q, k + positional_encoding, v) + dwc(v))

    The depthwise convolution has one kernel per channel of a head, the same for every head. With
    ``sr_ratio`` r > 1 keys and values come from the grid shrunk by r in both directions; for the
    convolution v is stretched back to N tokens along the flattened grid, as in the authors' code,
    which blends the end of a row with the start of the next.

    Hazards:
        - Those of its core, `flatten`.
        - With ``sr_ratio`` above 1 the convolution's values are stretched along the flattened grid,
          so that the end of a row reaches into the next, as in the authors' code.

    Differences:
        - The authors' Swin form takes the mask of shifted windows and does not use it; there is no
          such argument here.
        - The released FLatten-Swin and FLatten-CSwin have this layer in their first two stages only
          and softmax attention in the others; FLatten-PVT has it everywhere.

    Args:
        geometry: the shape to build for; value_dim must be head_dim.
        focusing_factor: p, as for `Flatten`.
        norm_over: as for `Flatten`.
        eps: as for `Flatten`.
        kernel_size: width of the depthwise kernels, odd.
        sr_ratio: r; must divide both sides of the grid.
        qkv_bias: whether q and kv have a bias.
    """

    def __init__(
        self,
        geometry: Geometry,
        focusing_factor: float = 3,
        norm_over: str = "all_heads",
        eps: float = 1e-6,
        kernel_size: int = 5,
        sr_ratio: int = 1,
        qkv_bias: bool = True,
    ) -> None:
        super().__init__(geometry)
        one_of(self.name, "geometry.value_dim", geometry.value_dim, (geometry.head_dim,))
        flag(self.name, "qkv_bias", qkv_bias)
        self.core = Flatten(geometry, focusing_factor, norm_over, eps)
        odd_width(self.name, "kernel_size", kernel_size)
        channels = geometry.embed_dim
        self.q = nn.Linear(channels, channels, bias=qkv_bias)
        self.kv = nn.Linear(channels, 2 * channels, bias=qkv_bias)
        self.reduced = ReducedGrid(self.name, channels, geometry.grid, sr_ratio)
        num_keys = geometry.seq_len // sr_ratio**2
        self.positional_encoding = nn.Parameter(torch.zeros(num_keys, channels))
        self.dwc = depthwise(geometry.head_dim, kernel_size)
        self.proj = nn.Linear(channels, channels)

    @float16_in_float32
    def forward(self, x: Tensor, *, key_mask: Tensor | None = None) -> Tensor:
        """(B, N, C) -> (B, N, C); hidden tokens are zeros to the convolution."""
        fills_grid(self.name, x.shape[1], self.geometry.grid)
        q, (k, v) = self.q(x), self.kv(self.reduced(x, key_mask)).chunk(2, dim=-1)
        heads = (self._split(part) for part in (q, k + self.positional_encoding, v))
        mixed = merge_heads(self.core(*heads, **mask_given(key_mask)))
        return self.proj(mixed + self._restored(hide_tokens(v, key_mask)))  # type: ignore[no-any-return]

    def _split(self, x: Tensor) -> Tensor:
        return split_heads(x, self.geometry.num_heads)

    def _restored(self, v: Tensor) -> Tensor:
        """DWC(v), (B, M, C) -> (B, N, C): the kernels once per head, on tokens as they lie."""
        v = stretch(v, self.geometry.seq_len)
        num_heads = self.geometry.num_heads
        assert self.dwc.bias is not None
        weight, bias = self.dwc.weight.repeat(num_heads, 1, 1, 1), self.dwc.bias.repeat(num_heads)
        image = image_of(v, self.geometry.grid)
        reach = weight.shape[-1] // 2
        return tokens_of(functional.conv2d(image, weight, bias, padding=reach, groups=len(weight)))

    def reference(self, x: Tensor) -> Tensor:
        """Patches, weights, kernels and interpolation written out."""
        q, (k, v) = self.q(x), self.kv(self.reduced.reference(x)).chunk(2, dim=-1)
        mixed = self.core.reference(
            *(self._split(part) for part in (q, k + self.positional_encoding, v))
        )
        heads = self._split(reference_stretch(v, x.shape[1]))
        restored = [
            reference_depthwise(head, self.dwc, self.geometry.grid) for head in heads.unbind(1)
        ]
        return self.proj(merge_heads(mixed + torch.stack(restored, dim=1)))  # type: ignore[no-any-return]

    def flops(self, shape: CallShape) -> int:
        """Projections, shrinking convolution, the core and depthwise convolution."""
        channels, tokens = shape.num_heads * shape.head_dim, shape.batch_size * shape.query_len
        r = self.reduced.ratio
        project = 2 * channels**2 * (2 * tokens + 2 * tokens // r**2)
        restore = 2 * channels * self.dwc.weight.shape[-1] ** 2 * tokens
        core = self.core.flops(replace(shape, key_len=shape.key_len // r**2))
        return project + self.reduced.flops(tokens, channels) + restore + core
