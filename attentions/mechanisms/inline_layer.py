"""InLine's layer: its projections, and a local residual with predicted kernels."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..base import AttentionLayer, CallShape, Geometry
from ..capabilities import GRID_LAYER
from ..checks import fills_grid, flag, one_of
from ..inputs import mask_given
from ..maths.heads import merge_heads, split_heads
from ..maths.pairs.masks import hide_tokens
from ..maths.vision.class_token import add_on_grid, grid_beside, reference_add_on_grid
from ..precision import float16_in_float32
from ..registry import register_attention
from .inline import InLine

_KERNEL_SIZE = 3
_KERNEL_SIZES = (_KERNEL_SIZE, _KERNEL_SIZE)


@register_attention(
    "inline_layer",
    title="InLine layer",
    source="Han et al., 2024, arXiv:2412.06590",
    family="kernel",
    capabilities=replace(GRID_LAYER, masks=frozenset({"padding"})),
)
class InLineLayer(AttentionLayer):
    """InLine with its projections and a local residual whose kernels the tokens' mean predicts.

        q, k, v = qkv(x)
        kernels = residual(mean of x)                         (3 x 3 for each sample and channel)
        out     = proj(inline(q, k, v) + v convolved with kernels)

    Hazards:
        - Those of its core, `inline`.

    Differences:
        - The authors' DeiT assumes one class token before a square grid; here that is
          ``class_token``, and without it any grid will do.

    Args:
        geometry: the shape to build for; value_dim must be head_dim.
        qkv_bias: whether qkv has a bias.
        class_token: whether the first token is not on the grid, as in the authors' DeiT. All
            others then fill a square, the geometry's grid is not used, and the convolution leaves
            the first token as it is.
    """

    def __init__(
        self, geometry: Geometry, qkv_bias: bool = True, class_token: bool = False
    ) -> None:
        super().__init__(geometry)
        one_of(self.name, "geometry.value_dim", geometry.value_dim, (geometry.head_dim,))
        flag(self.name, "qkv_bias", qkv_bias)
        self.num_beside = 1 if flag(self.name, "class_token", class_token) else 0
        self.grid = grid_beside(self.name, geometry, class_token=class_token)
        channels, heads = geometry.embed_dim, geometry.num_heads
        self.core = InLine(geometry)
        self.qkv = nn.Linear(channels, 3 * channels, bias=qkv_bias)
        self.residual = nn.Sequential(
            nn.Conv1d(channels, channels, 1, groups=heads),
            nn.GELU(),
            nn.Conv1d(channels, channels * _KERNEL_SIZE**2, 1, groups=heads),
        )
        self.proj = nn.Linear(channels, channels)

    @float16_in_float32
    def forward(self, x: Tensor, *, key_mask: Tensor | None = None) -> Tensor:
        """(B, N, C) -> (B, N, C); hidden tokens are in neither convolution nor mean."""
        fills_grid(self.name, x.shape[1] - self.num_beside, self.grid)
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        heads = (self._split(part) for part in (q, k, v))
        mixed = merge_heads(self.core(*heads, **mask_given(key_mask)))
        mean = x.mean(dim=1)
        if key_mask is not None:
            kept = key_mask.sum(dim=1, keepdim=True).clamp(min=1)
            mean = hide_tokens(x, key_mask).sum(dim=1) / kept
        kernels = self.residual(mean.unsqueeze(-1)).reshape(-1, 1, *_KERNEL_SIZES)
        local = self._convolve(hide_tokens(v, key_mask)[:, self.num_beside :], kernels)
        return self.proj(add_on_grid(mixed, local))  # type: ignore[no-any-return]

    def _split(self, x: Tensor) -> Tensor:
        return split_heads(x, self.geometry.num_heads)

    def _convolve(self, v: Tensor, kernels: Tensor) -> Tensor:
        """Each sample's channels with kernels of their own: (B, N', C) -> (B, N', C)."""
        batch_size, _, channels = v.shape
        if batch_size == 0:  # a convolution cannot have no groups
            return v
        images = torch.unflatten(v.transpose(1, 2).flatten(0, 1), 1, self.grid)  # (B C, rows, cols)
        out = functional.conv2d(
            images.unsqueeze(0), kernels, padding=_KERNEL_SIZE // 2, groups=len(kernels)
        )
        return out.reshape(batch_size, channels, -1).transpose(1, 2)

    def reference(self, x: Tensor) -> Tensor:
        """Around the core's reference, head by head and tap by tap."""
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        mixed = merge_heads(self.core.reference(*(self._split(part) for part in (q, k, v))))
        first, _, second = self.residual
        y = _reference_grouped(x.mean(dim=1), first)
        y = y * (1 + torch.erf(y / math.sqrt(2))) / 2  # GELU
        kernels = torch.unflatten(_reference_grouped(y, second), -1, (x.shape[-1], 3, 3))
        rows, columns = self.grid
        image = torch.unflatten(v[:, self.num_beside :], 1, self.grid)
        padded = functional.pad(image, (0, 0, 1, 1, 1, 1))
        local = torch.zeros_like(image)
        for down in range(3):
            for right in range(3):
                shifted = padded[:, down : down + rows, right : right + columns]
                local = local + shifted * kernels[:, None, None, :, down, right]
        return self.proj(reference_add_on_grid(mixed, local.flatten(1, 2)))  # type: ignore[no-any-return]

    def flops(self, shape: CallShape) -> int:
        """Projections, the core, the predicted kernels and their convolution."""
        channels, tokens = shape.num_heads * shape.head_dim, shape.batch_size * shape.query_len
        taps = _KERNEL_SIZE**2
        predict = 2 * shape.batch_size * channels * shape.head_dim * (1 + taps)
        on_grid = shape.batch_size * (shape.query_len - self.num_beside)
        own = 8 * tokens * channels**2 + predict + 2 * on_grid * channels * taps
        return own + self.core.flops(shape)


def _reference_grouped(x: Tensor, layer: nn.Module) -> Tensor:
    """A grouped 1 x 1 convolution of one token, group by group: (B, C) -> (B, C')."""
    assert isinstance(layer, nn.Conv1d) and layer.bias is not None
    groups = zip(x.chunk(layer.groups, dim=-1), layer.weight.chunk(layer.groups), strict=True)
    return torch.cat([part @ weight[:, :, 0].T for part, weight in groups], dim=-1) + layer.bias
