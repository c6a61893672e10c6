"""Layers computed in float32 for half tokens, weights included."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from .maths.grid import image_of, tokens_of
from .precision import in_wide_precision as in_wide_precision_within_range
from .precision import widen, within_range

__all__ = ["in_wide_precision_within_range", "within_range"]


def wide_linear(x: Tensor, layer: nn.Linear) -> Tensor:
    """``layer(x)`` with the layer's weights in wide precision, as x is."""
    bias = None if layer.bias is None else widen(layer.bias)
    return functional.linear(x, widen(layer.weight), bias)


def wide_depthwise(x: Tensor, convolution: nn.Conv2d, grid: tuple[int, int]) -> Tensor:
    """A `grid.depthwise` convolution of tokens, (B, N, C) -> (B, N, C), in wide precision."""
    bias = None if convolution.bias is None else widen(convolution.bias)
    out = functional.conv2d(
        image_of(x, grid),
        widen(convolution.weight),
        bias,
        padding=convolution.weight.shape[-1] // 2,
        groups=convolution.groups,
    )
    return tokens_of(out)
