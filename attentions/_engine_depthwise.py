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

from ._engine_threads import NUM_FEW, alone_if_few, alone_if_threads_sleep, run_jobs
from ._ordinary import is_ordinary
from .maths.grid import image_of, tokens_of

_ELEMENTS = 2**17
"""Most elements of an image's rows that are multiplied at once."""


def convolve_grid(
    tokens: Tensor, grid: tuple[int, int], weight: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor]:
    """One odd square kernel per channel, over the tokens of a grid.

    Args:
        tokens: (B, N, C), row by row.
        grid: rows and columns.
        weight: (C, 1, size, size).
        bias: (C,).

    Returns:
        (B, N, C), for the caller to add to in place: to autograd it is no view. Then the tokens
        again, for what else is made of them: their gradients meet here, and wake no thread.
    """
    by_hand = (
        torch.is_grad_enabled()
        and any(x.requires_grad for x in (tokens, weight, bias))
        and tokens.dtype in (torch.float32, torch.float64)
        and not torch.is_autocast_enabled("cpu")
        and is_ordinary(tokens, weight, bias)
    )
    if by_hand:
        both: tuple[Tensor, Tensor] = _Convolution.apply(tokens, grid, weight, bias)  # type: ignore[no-untyped-call]
        return both
    return tokens_of(_convolved(image_of(tokens, grid), weight, bias)), tokens


def _convolved(image: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    reach = weight.shape[-1] // 2
    with alone_if_few(image, few=NUM_FEW):
        return functional.conv2d(image, weight, bias, padding=reach, groups=len(weight))


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, tokens: Tensor, grid: tuple[int, int], weight: Tensor, bias: Tensor
    ) -> tuple[Tensor, Tensor]:
        ctx.grid = grid
        ctx.save_for_backward(tokens, weight)
        out = tokens_of(_convolved(image_of(tokens, grid), weight, bias)).detach()
        return out, tokens

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, Tensor, Tensor]:
        tokens, weight = ctx.saved_tensors
        image, grad = image_of(tokens, ctx.grid), image_of(grads[0], ctx.grid)
        if torch.is_grad_enabled():
            d_image, d_weight, d_bias = _differentiable_gradients(image, weight, grad)
            return tokens_of(d_image) + grads[1], None, d_weight, d_bias
        d_tokens = tokens_of(_convolved(grad, weight.flip(2, 3), None))
        with alone_if_few(d_tokens, few=NUM_FEW):
            d_tokens.add_(grads[1])
        is_one_block = image.numel() <= _ELEMENTS
        with alone_if_threads_sleep() if is_one_block else contextlib.nullcontext():
            d_weight = kernel_gradient(image, grad, weight.shape[-1])
            return d_tokens, None, d_weight, grad.sum(dim=(0, 2, 3))


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
