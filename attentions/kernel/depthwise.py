"""A depthwise convolution of tokens as they lie, channels last, with its backward pass.

Torch's gradient of a depthwise kernel takes many times as long as the convolution itself. Here it
is a sum of shifted products, over a few rows of the grid at a time, which stay in the cache; the
gradient of the image is a convolution with the kernels turned by half a turn.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ..inputs import is_eager_cpu
from ..maths.grid import image_of, tokens_of
from ..precision import backward_without_autocast

_ELEMENTS = 2**17
"""Largest number of elements of an image's rows that are multiplied at once."""


def convolve_grid(tokens: Tensor, grid: tuple[int, int], weight: Tensor, bias: Tensor) -> Tensor:
    """One odd square kernel per channel, over the tokens of a grid.

    Args:
        tokens: (B, N, C), row by row.
        grid: rows and columns.
        weight: (C, 1, size, size).
        bias: (C,).

    Returns:
        (B, N, C).
    """
    by_hand = (
        torch.is_grad_enabled()
        and any(x.requires_grad for x in (tokens, weight, bias))
        and tokens.dtype in (torch.float32, torch.float64)
        and not torch.is_autocast_enabled("cpu")
        and is_eager_cpu(tokens, weight, bias)
    )
    if by_hand:
        out: Tensor = _Convolution.apply(tokens, grid, weight, bias)  # type: ignore[no-untyped-call]
        return out
    return tokens_of(_convolved(image_of(tokens, grid), weight, bias))


def _convolved(image: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return functional.conv2d(image, weight, bias, padding=weight.shape[-1] // 2, groups=len(weight))


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(tokens: Tensor, grid: tuple[int, int], weight: Tensor, bias: Tensor) -> Tensor:
        return tokens_of(_convolved(image_of(tokens, grid), weight, bias))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        tokens, ctx.grid, weight, bias = inputs
        ctx.save_for_backward(tokens, weight, bias)

    @staticmethod
    def vmap(info: Any, in_dims: Any, *inputs: Any) -> tuple[Tensor, None]:
        """None of them is mapped over, or they would not be here."""
        return _Convolution.apply(*inputs), None  # type: ignore[no-untyped-call]

    @staticmethod
    @backward_without_autocast
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        tokens, weight, bias = ctx.saved_tensors
        image, grad = image_of(tokens, ctx.grid), image_of(grads[0], ctx.grid)
        if torch.is_grad_enabled():  # for gradients of gradients
            leaves = [x.view_as(x) for x in (image, weight, bias)]
            out = _convolved(*leaves)
            found = torch.autograd.grad(
                out, [x for x in leaves if x.requires_grad], grad, create_graph=True
            )
            each = iter(found)
            d_image, d_weight, d_bias = (next(each) if x.requires_grad else None for x in leaves)
            return None if d_image is None else tokens_of(d_image), None, d_weight, d_bias
        d_tokens = tokens_of(_convolved(grad, weight.flip(2, 3), None))
        d_weight = kernel_gradient(image, grad, weight.shape[-1])
        return d_tokens, None, d_weight, grad.sum(dim=(0, 2, 3))


def kernel_gradient(image: Tensor, grad: Tensor, size: int) -> Tensor:
    """(B, C, rows, columns), the same, kernel size -> (C, 1, size, size)."""
    batch_size, channels, rows, columns = image.shape
    reach = size // 2
    padded = functional.pad(image.permute(0, 2, 3, 1), (0, 0, reach, reach, reach, reach))
    d_out = grad.permute(0, 2, 3, 1)
    height = max(1, _ELEMENTS // (columns * channels))
    total = image.new_zeros(size, size, channels)
    for row in range(batch_size):
        for top in range(0, rows, height):
            d_rows = d_out[row, top : top + height]
            for down in range(size):
                at = padded[row, top + down : top + down + len(d_rows)]
                for right in range(size):
                    product = at[:, right : right + columns] * d_rows
                    total[down, right] += product.sum(dim=(0, 1))
    return total.permute(2, 0, 1).unsqueeze(1)
