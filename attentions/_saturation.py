"""Mechanisms whose outputs can leave float16's range stop at its largest number.

Nothing divides these outputs, or what divides them can be nearly nothing, so a few tokens of norm
50 are enough to pass 65504. A layer's own products are then taken in float32 as well, weights
included: their gradients have the same range.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from .maths.grid import image_of, tokens_of
from .precision import widen, without_autocast

F = TypeVar("F", bound=Callable[..., Tensor])


def within_range(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Cast; what float16 cannot hold becomes its largest finite number of the same sign."""
    if dtype == torch.float16 and x.dtype != dtype:
        largest = torch.finfo(dtype).max
        x = x.clamp(-largest, largest)
    return x.to(dtype)


def in_wide_precision_within_range(mix: F) -> F:
    """Make ``mix(self, q, k, v, **masks)`` see wide tensors; cast its result by `within_range`."""

    @functools.wraps(mix)
    def wide(self: Any, q: Tensor, k: Tensor, v: Tensor, **masks: Tensor | None) -> Tensor:
        with without_autocast(q.device.type):
            return within_range(mix(self, widen(q), widen(k), widen(v), **masks), q.dtype)

    return cast(F, wide)


def wide_linear(x: Tensor, layer: nn.Linear) -> Tensor:
    """``layer(x)`` with the layer's weights in wide precision, as x is."""
    bias = None if layer.bias is None else widen(layer.bias)
    return functional.linear(x, widen(layer.weight), bias)


def wide_depthwise(x: Tensor, convolution: nn.Conv2d, grid: tuple[int, int]) -> Tensor:
    """A `_grid.depthwise` convolution of tokens, (B, N, C) -> (B, N, C), in wide precision."""
    bias = None if convolution.bias is None else widen(convolution.bias)
    out = functional.conv2d(
        image_of(x, grid),
        widen(convolution.weight),
        bias,
        padding=convolution.weight.shape[-1] // 2,
        groups=convolution.groups,
    )
    return tokens_of(out)
