"""A depthwise convolution of tokens as they lie, channels last, with a backward pass by hand.

Torch's gradient of a depthwise kernel takes many times as long as the convolution itself. Here it
is a sum of shifted products, taken over a few rows of the grid at a time, so that they stay in a
near cache; the gradient of the image is a convolution with the kernels turned by half a turn.
"""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ._engine import is_ordinary
from ._engine_threads import alone_if_few, alone_if_threads_sleep, run_jobs

_ELEMENTS = 2**17
"""Most elements of an image's rows that are multiplied at once."""


def convolve_channels(image: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """One odd square kernel per channel, keeping the grid's size.

    Args:
        image: (B, C, rows, columns), in memory as (B, rows, columns, C).
        weight: (C, 1, size, size).
        bias: (C,).

    Returns:
        (B, C, rows, columns), laid out like the image.
    """
    by_hand = (
        torch.is_grad_enabled()
        and any(x.requires_grad for x in (image, weight, bias))
        and image.dtype in (torch.float32, torch.float64)
        and not torch.is_autocast_enabled("cpu")
        and is_ordinary(image, weight, bias)
    )
    if by_hand:
        out: Tensor = _Convolution.apply(image, weight, bias)  # type: ignore[no-untyped-call]
        return out
    return _convolved(image, weight, bias)


def _convolved(image: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    reach = weight.shape[-1] // 2
    with alone_if_few(image):
        return functional.conv2d(image, weight, bias, padding=reach, groups=len(weight))


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, image: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(image, weight)
        return _convolved(image, weight, bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        image, weight = ctx.saved_tensors
        (grad,) = grads
        if torch.is_grad_enabled():
            return _differentiable_gradients(image, weight, grad)
        d_image = _convolved(grad, weight.flip(2, 3), None)
        is_one_block = image.numel() <= _ELEMENTS
        with alone_if_threads_sleep() if is_one_block else contextlib.nullcontext():
            d_weight = kernel_gradient(image, grad, weight.shape[-1])
            return d_image, d_weight, grad.sum(dim=(0, 2, 3))


def _differentiable_gradients(
    image: Tensor, weight: Tensor, grad: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """By torch's own operator, for gradients of gradients."""
    channels, reach = len(weight), weight.shape[-1] // 2
    pair, around = [1, 1], [reach, reach]
    d_image, d_weight, d_bias = torch.ops.aten.convolution_backward(
        grad, image, weight, [channels], pair, around, pair, False, [0, 0], channels, [True] * 3
    )
    return d_image, d_weight, d_bias


def kernel_gradient(image: Tensor, grad: Tensor, size: int) -> Tensor:
    """(B, C, rows, columns), the same, kernel size -> (C, 1, size, size)."""
    batch_size, channels, rows, columns = image.shape
    reach = size // 2
    padded = functional.pad(image.permute(0, 2, 3, 1), (0, 0, reach, reach, reach, reach))
    d_out = grad.permute(0, 2, 3, 1)
    height = max(1, _ELEMENTS // (columns * channels))
    blocks = [(index, top) for index in range(batch_size) for top in range(0, rows, height)]

    def taps(block: tuple[int, int]) -> Tensor:
        index, top = block
        return _taps(padded[index, top:], d_out[index, top : top + height], size)

    total = torch.stack(run_jobs(taps, blocks)).sum(dim=0)
    return total.permute(2, 0, 1).unsqueeze(1)


def _taps(image: Tensor, grad: Tensor, size: int) -> Tensor:
    """Products of (rows, columns, C) with the image as each tap shifts it: (size, size, C)."""
    rows, columns, channels = grad.shape
    product = torch.empty_like(grad)
    sums = grad.new_empty(size, size, channels)
    for down in range(size):
        for right in range(size):
            shifted = image[down : down + rows, right : right + columns]
            torch.mul(shifted, grad, out=product)
            torch.sum(product, dim=(0, 1), out=sums[down, right])
    return sums
