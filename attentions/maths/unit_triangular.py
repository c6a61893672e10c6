"""Inverses of many small triangular matrices with a diagonal of ones, by products alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def unit_triangular_inverse(below: Tensor) -> Tensor:
    """(I + A)^(-1) for a strictly lower triangular A, (..., C, C), with C a power of two.

    Blocks on the diagonal are inverted and merged with their neighbours, level by level: the
    inverse of [[P, 0], [R, Q]] is [[P^-1, 0], [-Q^-1 R P^-1, Q^-1]]. A solver would go through the
    batch one by one. Its errors are of the size of a solver's where no block's inverse is large, as
    in the delta rule: for keys of unit length and beta up to 2 no entry of theirs exceeds beta.
    """
    inverse: Tensor = _UnitTriangularInverse.apply(below)  # type: ignore[no-untyped-call]
    return inverse


class _UnitTriangularInverse(torch.autograd.Function):
    """The gradient needs the inverse only, and none of the steps towards it."""

    @staticmethod
    def forward(ctx: Any, below: Tensor) -> Tensor:
        size = below.shape[-1]
        inverse = below.new_ones(*below.shape[:-1], 1, 1)  # (..., blocks, tokens, tokens)
        for tokens in (1 << level for level in range(size.bit_length() - 1)):
            first, second = torch.unflatten(inverse, -3, (-1, 2)).unbind(-3)
            joint = -_joints(below, tokens)
            if tokens > 1:
                joint = second @ joint @ first
            upper = torch.cat((first, torch.zeros_like(first)), dim=-1)
            inverse = torch.cat((upper, torch.cat((joint, second), dim=-1)), dim=-2)
        inverse = inverse.squeeze(-3)
        ctx.save_for_backward(inverse)
        return inverse

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (inverse,) = ctx.saved_tensors
        transposed = inverse.transpose(-2, -1)
        below: Tensor = -(transposed @ gradient @ transposed).tril(-1)
        return below


def _joints(below: Tensor, tokens: int) -> Tensor:
    """The blocks R that join neighbours on the diagonal, (..., blocks / 2, tokens, tokens)."""
    pairs = torch.unflatten(torch.unflatten(below, -1, (-1, 2, tokens)), -4, (-1, 2, tokens))
    joints = pairs[..., :, 1, :, :, 0, :]  # (..., blocks / 2, tokens, blocks / 2, tokens)
    return joints.diagonal(dim1=-4, dim2=-2).movedim(-1, -3)


def unit_triangular_inverse_flops(num_matrices: int, size: int) -> int:
    """Of a merge of two blocks of s > 1 tokens, two products of s x s matrices."""
    return num_matrices * 2 * size * max(0, size**2 - 4) // 3
