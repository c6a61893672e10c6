"""Tokens as cells of a 2-D grid, row by row."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def convolve_on_grid(x: Tensor, convolution: nn.Conv2d, grid: tuple[int, int]) -> Tensor:
    """(B, N, channels) -> (B, N', channels'): tokens become an image, are convolved, and return."""
    image = torch.unflatten(x.transpose(1, 2), 2, grid)  # (B, channels, rows, columns)
    return convolution(image).flatten(2).transpose(1, 2)  # type: ignore[no-any-return]


def depthwise(channels: int, kernel_size: int) -> nn.Conv2d:
    """A convolution with one kernel per channel that keeps the grid's size."""
    return nn.Conv2d(channels, channels, kernel_size, padding=kernel_size // 2, groups=channels)


def reference_depthwise(x: Tensor, convolution: nn.Conv2d, grid: tuple[int, int]) -> Tensor:
    """What `depthwise` computes, as a sum over the kernel's taps: (B, N, C) -> (B, N, C)."""
    rows, columns = grid
    kernel = convolution.weight[:, 0]  # (C, size, size)
    reach = kernel.shape[-1] // 2
    image = torch.unflatten(x, 1, grid)  # (B, rows, columns, C)
    padded = nn.functional.pad(image, (0, 0, reach, reach, reach, reach))
    out = image.new_zeros(image.shape)
    for down in range(kernel.shape[1]):
        for right in range(kernel.shape[2]):
            shifted = padded[:, down : down + rows, right : right + columns]
            out = out + shifted * kernel[:, down, right]
    if convolution.bias is not None:
        out = out + convolution.bias
    return out.flatten(1, 2)
