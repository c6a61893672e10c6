"""Layers of float16 tokens are computed in float32 on a processor, and stop at its largest number.

What a layer projects from tokens of 1e3, or multiplies with a gate, is often no number of float16.
Infinity would come out, and a norm behind it would make that NaN. Most processors have no float16
arithmetic, and multiply it slower than float32. Other devices have it, and there a layer runs in
the dtype of its weights, as models do; bfloat16 has the range of float32.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ._saturation import wide_depthwise, wide_linear, within_range
from .maths.grid import convolve_on_grid, image_of, tokens_of
from .maths.norms import Norm
from .maths.reduced_grid import ReducedGrid
from .precision import widen, without_autocast

F = TypeVar("F", bound=Callable[..., Tensor])


def is_narrow(x: Tensor) -> bool:
    """Whether a layer of these tokens is computed in float32."""
    return x.dtype == torch.float16 and x.device.type == "cpu"


def float16_in_float32(forward: F) -> F:
    """Make a layer's ``forward(self, x)`` see float32 for `is_narrow` tokens; cast its result back.

    Inside of it, the functions below stand for the layer's own modules: they take tokens of either
    dtype.
    """

    @functools.wraps(forward)
    def in_range(self: Any, x: Tensor) -> Tensor:
        if not is_narrow(x):
            return forward(self, x)
        with without_autocast(x.device.type):
            return within_range(forward(self, widen(x)), x.dtype)

    return cast(F, in_range)


def project(x: Tensor, layer: nn.Module) -> Tensor:
    """``layer(x)``."""
    if isinstance(layer, nn.Linear) and _was_widened(x, layer):
        return wide_linear(x, layer)
    return layer(x)  # type: ignore[no-any-return]


def project_within_range(x: Tensor, layer: nn.Module) -> Tensor:
    """``layer(x)`` in the dtype of x, for a layer whose inside is somebody else's."""
    if not is_narrow(x) or type(layer) is not nn.Linear:
        return layer(x)  # type: ignore[no-any-return]
    with without_autocast(x.device.type):
        return within_range(wide_linear(widen(x), layer), x.dtype)


def convolve(x: Tensor, convolution: nn.Conv2d, grid: tuple[int, int]) -> Tensor:
    """A `_grid.depthwise` convolution: (B, N, C) -> (B, N, C)."""
    if _was_widened(x, convolution):
        return wide_depthwise(x, convolution, grid)
    return convolve_on_grid(x, convolution, grid)


def reduce(x: Tensor, reduced: ReducedGrid) -> Tensor:
    """``reduced(x)``: (B, N, C) -> (B, N / r^2, C)."""
    if reduced.ratio > 1 and _was_widened(x, reduced.sr):
        return shrink(x, reduced.sr, reduced.norm, reduced.grid)
    return reduced(x)  # type: ignore[no-any-return]


def shrink(x: Tensor, convolution: nn.Conv2d, norm: Norm, grid: tuple[int, int]) -> Tensor:
    """A strided convolution with a bias, and a norm: (B, N, C) -> (B, M, C)."""
    if not _was_widened(x, convolution):
        return norm(convolve_on_grid(x, convolution, grid))  # type: ignore[no-any-return]
    weight, bias = widen(convolution.weight), widen(cast(Tensor, convolution.bias))
    shrunk = functional.conv2d(image_of(x, grid), weight, bias, stride=convolution.stride)
    return normalise(tokens_of(shrunk), norm)


def normalise(x: Tensor, norm: Norm) -> Tensor:
    """``norm(x)``."""
    if not _was_widened(x, norm):
        return norm(x)  # type: ignore[no-any-return]
    sizes, weight = list(norm.normalized_shape), widen(norm.weight)
    if isinstance(norm, nn.RMSNorm):
        return functional.rms_norm(x, sizes, weight, norm.eps)
    return functional.layer_norm(x, sizes, weight, widen(norm.bias), norm.eps)


def add(x: Tensor, learned: Tensor) -> Tensor:
    """``x + learned``."""
    return x + like(x, learned)


def like(x: Tensor, learned: Tensor) -> Tensor:
    """A learned tensor in the dtype of tokens."""
    return learned if x.dtype == learned.dtype else widen(learned)


def _was_widened(x: Tensor, module: nn.Module) -> bool:
    """Whether tokens left the dtype of a module. One that somebody put there may have no weight."""
    weight = getattr(module, "weight", None)
    return isinstance(weight, Tensor) and weight.dtype == torch.float16 != x.dtype
