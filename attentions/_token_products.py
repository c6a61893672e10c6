"""A learned mix of a sequence's tokens, for all channels at once, with a backward pass by hand.

Torch's own product is MKL's; see `_engine_products` for the other library and when it is faster.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ._engine_products import fast_linear, has_fast_linear
from ._ordinary import is_ordinary

_WHOLE = 64
"""Tokens are a multiple of this: a kernel is compiled for each length, and lengths come again."""


def mix_tokens(rows: Tensor, tokens: Tensor) -> Tensor:
    """P^T X: (N, P), (B, N, C) -> (B, P, C)."""
    by_hand = (
        is_ordinary(rows, tokens)  # first: an exported graph has a length that nobody knows
        and rows.shape[0] % _WHOLE == 0
        and tokens.dtype == rows.dtype
        and not torch.is_autocast_enabled("cpu")
        and has_fast_linear(tokens)
    )
    if by_hand:
        mixed: Tensor = _Mix.apply(rows, tokens)  # type: ignore[no-untyped-call]
        return mixed
    # A product of one matrix and several is laid down transposed, and copied afterwards.
    return rows.T.expand(tokens.shape[0], -1, -1) @ tokens


class _Mix(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, tokens: Tensor) -> Tensor:
        ctx.save_for_backward(rows, tokens)
        rows_t = rows.T.contiguous()
        return torch.stack([fast_linear(rows_t, of_row.T) for of_row in tokens])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        rows, tokens = ctx.saved_tensors
        (grad,) = grads  # (B, P, C)
        if torch.is_grad_enabled():  # for gradients of gradients, by operators that have some
            return (tokens @ grad.mT).sum(dim=0), rows @ grad
        d_rows = fast_linear(tokens[0], grad[0])
        for of_tokens, of_grad in zip(tokens[1:], grad[1:], strict=True):
            d_rows += fast_linear(of_tokens, of_grad)
        return d_rows, torch.stack([fast_linear(rows, of_grad.T.contiguous()) for of_grad in grad])
