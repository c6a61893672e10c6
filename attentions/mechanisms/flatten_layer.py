"""FLatten's layer: projections, position encoding, reduced grid and depthwise convolution."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..base import AttentionLayer, CallShape, Geometry
from ..capabilities import Capabilities
from ..checks import fills_grid, flag, odd_width, one_of, whole
from ..kernel import convolve_grid
from ..maths.grid import convolve_on_grid, depthwise, reference_depthwise
from ..maths.heads import merge_heads, split_heads
from ..maths.kernel_attention import kernel_flops
from ..precision import float16_in_float32, wide_dtype
from ..registry import register_attention
from .flatten import Focused


class _Mix(Focused):
    """The layer's core, whose ``scale`` is the layer's."""

    name = "flatten_layer"
    capabilities = Capabilities(cross=True, heads_independent=False)


@register_attention(
    "flatten_layer",
    title="FLatten layer",
    source="Han et al., 2023, arXiv:2308.00442",
    family="kernel",
    capabilities=Capabilities(
        needs_grid=True, position_free=False, heads_independent=False, scopes=("layer",)
    ),
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
        self.mix = _Mix(geometry, focusing_factor, norm_over, eps)
        self.kernel_size = odd_width(self.name, "kernel_size", kernel_size)
        self.sr_ratio = whole(self.name, "sr_ratio", sr_ratio, 1)
        rows, columns = geometry.grid
        if rows % sr_ratio or columns % sr_ratio:
            raise ValueError(
                f"{self.name}: sr_ratio is {sr_ratio}; a divisor of both sides of the "
                f"{rows}x{columns} grid is needed."
            )

        channels, num_keys = geometry.embed_dim, geometry.seq_len // sr_ratio**2
        self.q = nn.Linear(channels, channels, bias=qkv_bias)
        self.kv = nn.Linear(channels, 2 * channels, bias=qkv_bias)
        if sr_ratio > 1:
            self.sr = nn.Conv2d(channels, channels, sr_ratio, stride=sr_ratio)
            self.norm = nn.LayerNorm(channels)
        self.positional_encoding = nn.Parameter(torch.zeros(num_keys, channels))
        self.scale = nn.Parameter(torch.zeros(channels))
        self.dwc = depthwise(geometry.head_dim, kernel_size)
        self.proj = nn.Linear(channels, channels)

    @float16_in_float32
    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) -> (B, N, C)."""
        fills_grid(self.name, x.shape[1], self.geometry.grid)
        q, (k, v) = self.q(x), self.kv(self._shrink(x)).chunk(2, dim=-1)
        q, k, values = (self._split(part) for part in (q, k + self.positional_encoding, v))
        inverse = self.mix.inverse(self.scale, wide_dtype(q.dtype))
        mixed = merge_heads(self.mix.attend(q, k, values, inverse))
        return self.proj(mixed + self._restored(v))  # type: ignore[no-any-return]

    def _split(self, x: Tensor) -> Tensor:
        return split_heads(x, self.geometry.num_heads)

    def _shrink(self, x: Tensor) -> Tensor:
        if self.sr_ratio == 1:
            return x
        return self.norm(convolve_on_grid(x, self.sr, self.geometry.grid))  # type: ignore[no-any-return]

    def _restored(self, v: Tensor) -> Tensor:
        """DWC(v), (B, M, C) -> (B, N, C): the kernels once per head, on tokens as they lie."""
        if self.sr_ratio > 1:
            length = self.geometry.seq_len
            v = functional.interpolate(v.transpose(1, 2), size=length, mode="linear").transpose(
                1, 2
            )
        num_heads = self.geometry.num_heads
        assert self.dwc.bias is not None
        weight, bias = self.dwc.weight.repeat(num_heads, 1, 1, 1), self.dwc.bias.repeat(num_heads)
        return convolve_grid(v, self.geometry.grid, weight, bias)

    def reference(self, x: Tensor) -> Tensor:
        """Patches, weights, kernels and interpolation written out."""
        q, (k, v) = self.q(x), self.kv(self._reference_shrink(x)).chunk(2, dim=-1)
        q, k, values = (self._split(part) for part in (q, k + self.positional_encoding, v))
        mixed = self.mix.reference_of(q, k, values, self.scale)
        heads = self._split(self._reference_stretch(v))
        restored = torch.stack(
            [reference_depthwise(head, self.dwc, self.geometry.grid) for head in heads.unbind(1)],
            dim=1,
        )
        return self.proj(merge_heads(mixed + restored))  # type: ignore[no-any-return]

    def _reference_shrink(self, x: Tensor) -> Tensor:
        if self.sr_ratio == 1:
            return x
        r, image = self.sr_ratio, torch.unflatten(x, 1, self.geometry.grid)  # (B, rows, columns, C)
        shrunk = torch.zeros_like(image[:, ::r, ::r])
        for down in range(r):
            for right in range(r):
                kernel = self.sr.weight[:, :, down, right]
                shrunk = shrunk + image[:, down::r, right::r] @ kernel.T
        assert self.sr.bias is not None
        tokens = shrunk.flatten(1, 2) + self.sr.bias
        centred = tokens - tokens.mean(dim=-1, keepdim=True)
        spread = (centred.pow(2).mean(dim=-1, keepdim=True) + self.norm.eps).sqrt()
        return centred / spread * self.norm.weight + self.norm.bias

    def _reference_stretch(self, v: Tensor) -> Tensor:
        """Value of a piecewise linear curve through the M tokens, at the centres of N pieces."""
        num_keys, seq_len = v.shape[1], self.geometry.seq_len
        place = (torch.arange(seq_len, dtype=v.dtype, device=v.device) + 0.5) * num_keys / seq_len
        place = (place - 0.5).clamp(0, num_keys - 1)
        left = place.floor().long()
        right = (left + 1).clamp(max=num_keys - 1)
        share = (place - left)[:, None]
        return v[:, left] * (1 - share) + v[:, right] * share

    def flops(self, shape: CallShape) -> int:
        """Projections, shrinking convolution, kernel attention and depthwise convolution."""
        channels, tokens = shape.num_heads * shape.head_dim, shape.batch_size * shape.query_len
        keys = tokens // self.sr_ratio**2
        project = 2 * channels**2 * (2 * tokens + 2 * keys)
        shrink = 2 * channels**2 * tokens if self.sr_ratio > 1 else 0
        restore = 2 * channels * self.kernel_size**2 * tokens
        core = replace(shape, key_len=shape.key_len // self.sr_ratio**2)
        return project + shrink + restore + kernel_flops(core, shape.head_dim)
