"""What layers call their modules by, until their files call them themselves."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from .maths.grid import convolve_on_grid
from .precision import float16_in_float32

__all__ = ["float16_in_float32"]


def project(x: Tensor, layer: nn.Module) -> Tensor:
    """``layer(x)``."""
    return cast(Tensor, layer(x))


def convolve(x: Tensor, convolution: nn.Conv2d, grid: tuple[int, int]) -> Tensor:
    """A `grid.depthwise` convolution: (B, N, C) -> (B, N, C)."""
    return convolve_on_grid(x, convolution, grid)


def reduce(x: Tensor, reduced: nn.Module) -> Tensor:
    """``reduced(x)``: (B, N, C) -> (B, N / r^2, C)."""
    return cast(Tensor, reduced(x))


def shrink(x: Tensor, convolution: nn.Conv2d, norm: nn.Module, grid: tuple[int, int]) -> Tensor:
    """A strided convolution with a bias, and a norm: (B, N, C) -> (B, M, C)."""
    return cast(Tensor, norm(convolve_on_grid(x, convolution, grid)))


def normalise(x: Tensor, norm: nn.Module) -> Tensor:
    """``norm(x)``."""
    return cast(Tensor, norm(x))


def add(x: Tensor, learned: Tensor) -> Tensor:
    """``x + learned``."""
    return x + learned


def like(x: Tensor, learned: Tensor) -> Tensor:
    """A learned tensor in the dtype of tokens."""
    return learned
