"""Tokens as cells of a 2-D grid, row by row."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def image_of(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """(B, N, channels) -> (B, channels, rows, columns), in memory as before.

    The grid comes before the channels move. The other way round, an image alone in its batch has
    strides by which torch does not see that channels come last in memory: it copies the image into
    the other order, which can take several times as long as what is done with it.
    """
    return torch.unflatten(tokens, 1, grid).permute(0, 3, 1, 2)


def tokens_of(image: Tensor) -> Tensor:
    """(B, channels, rows, columns) -> (B, N, channels), row by row."""
    return image.flatten(2).transpose(1, 2)


def convolve_on_grid(x: Tensor, convolution: nn.Conv2d, grid: tuple[int, int]) -> Tensor:
    """(B, N, channels) -> (B, N', channels'): tokens become an image, are convolved, and return."""
    return tokens_of(convolution(image_of(x, grid)))


def depthwise(channels: int, kernel_size: int) -> nn.Conv2d:
    """A convolution with one kernel per channel that keeps the grid's size."""
    return nn.Conv2d(channels, channels, kernel_size, padding=kernel_size // 2, groups=channels)


def reference_depthwise(x: Tensor, convolution: nn.Conv2d, grid: tuple[int, int]) -> Tensor:
    """Slow form of `depthwise`, as a sum over the kernel's taps: (B, N, C) -> (B, N, C)."""
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
