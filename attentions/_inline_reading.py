"""What queries read from the covariance of keys and values, with a backward pass by hand.

    C = K^T V / M - mean(k)^T mean(v),  out = mean(v) + Q C / sqrt(D)

By hand it keeps C and two means only; autograd would keep, and write, each step towards them.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ._engine_threads import alone_if_few
from ._in_float64 import look_at_no_more_if_sound
from ._ordinary import is_ordinary


def read_covariance(q: Tensor, k: Tensor, v: Tensor, num_keys: Tensor | int) -> Tensor:
    """(B, H, N, D), (B, H, M, D), (B, H, M, E) -> (B, H, N, E).

    Args:
        q: queries.
        k: keys; those that nobody sees are zero.
        v: values; likewise.
        num_keys: how many are seen, a number or (B, 1, 1, 1).
    """
    if is_ordinary(q, k, v):
        if torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v)):
            out: Tensor = _Reading.apply(q, k, v, num_keys)  # type: ignore[no-untyped-call]
            return out
        with alone_if_few(q, k, v):
            found = _read(q, *_gather(k, v, num_keys))
            look_at_no_more_if_sound(found)
            return found
    return _read(q, *_gather(k, v, num_keys))


def _gather(k: Tensor, v: Tensor, num_keys: Tensor | int) -> tuple[Tensor, Tensor, Tensor]:
    """The covariance, and the means of keys and values."""
    mean_k, mean_v = (x.sum(dim=-2, keepdim=True) / num_keys for x in (k, v))
    covariance = k.transpose(-2, -1) @ v / num_keys - mean_k.transpose(-2, -1) * mean_v
    return covariance, mean_k, mean_v


def _read(q: Tensor, covariance: Tensor, mean_k: Tensor, mean_v: Tensor) -> Tensor:
    return _sum(mean_v, q, covariance / math.sqrt(q.shape[-1]))


def _sum(row: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """A row and A B, by one operator, which writes the result once: (B, H, 1, ...) first."""
    heads = (x.flatten(0, 1) for x in (row, a, b))
    return torch.unflatten(torch.baddbmm(*heads), 0, a.shape[:2])


class _Reading(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, num_keys: Tensor | int) -> Tensor:
        with alone_if_few(q, k, v):
            gathered = _gather(k, v, num_keys)
            out = _read(q, *gathered)
        ctx.num_keys = num_keys
        ctx.save_for_backward(q, k, v, *gathered)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        q, k, v, covariance, mean_k, mean_v = ctx.saved_tensors
        (grad,) = grads
        if torch.is_grad_enabled():  # for gradients of gradients, by operators that have some
            covariance, mean_k, mean_v = _gather(k, v, ctx.num_keys)
        with alone_if_few(q, k, v):
            scaled = covariance / math.sqrt(q.shape[-1])
            share = q.transpose(-2, -1) @ grad / (math.sqrt(q.shape[-1]) * ctx.num_keys)
            d_mean = grad.sum(dim=-2, keepdim=True) / ctx.num_keys
            d_q = grad @ scaled.transpose(-2, -1)
            d_k = _sum(-mean_v @ share.transpose(-2, -1), v, share.transpose(-2, -1))
            d_v = _sum(d_mean - mean_k @ share, k, share)
        return d_q, d_k, d_v, None
