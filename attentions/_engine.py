"""Kernel attention on a processor: one engine for all mechanisms that have two feature maps.

A mechanism's plain form is a formula over whole tensors. On a processor that is slow: each of its
steps writes a tensor that no cache holds, and autograd keeps most of them. The engine computes the
same from tiles, and its backward pass computes features anew unless all is one tile. Where it does
not apply, or where gradients of gradients are asked for, the plain form is used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from . import _engine_bidirectional, _engine_causal
from ._engine_kernel import Kernel
from ._engine_tally import Tally
from ._engine_tiles import room
from ._in_float64 import gradients_once_more, look_at_no_more, once_more
from ._ordinary import is_ordinary
from .precision import without_autocast

_COMPUTED_IN_FLOAT32 = {torch.float32, torch.bfloat16, torch.float16}

Plain = Callable[..., Tensor]
"""The plain form: q, k, v and the kernel's weights to the output, by differentiable operators."""


def applies(q: Tensor, k: Tensor, v: Tensor, *weights: Tensor) -> bool:
    """Whether the engine can take these.

    Not what `is_ordinary` refuses, and not shapes that do not fit together, about which the plain
    form has its say.
    """
    tensors = (q, k, v, *weights)
    if not (is_ordinary(*tensors) and _fit_together(q, k, v)):
        return False
    dtypes = {x.dtype for x in tensors}
    return dtypes <= _COMPUTED_IN_FLOAT32 or dtypes == {torch.float64}


def _fit_together(q: Tensor, k: Tensor, v: Tensor) -> bool:
    return (
        q.dim() == k.dim() == v.dim() == 4
        and q.shape[:2] == k.shape[:2] == v.shape[:2]
        and q.shape[3] == k.shape[3]
        and k.shape[2] == v.shape[2]
        and min(q.numel(), k.numel(), v.numel()) > 0
    )


def attention_by_tiles(
    kernel: Kernel,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *weights: Tensor,
    plain: Plain,
    onto: Tensor | None = None,
) -> Tensor:
    """(B, H, N, D), (B, H, M, D), (B, H, M, E) -> (B, H, N, E), in the dtype of q.

    Half tensors are widened tile by tile, and computed in float32.

    Args:
        kernel: the features and what is done with them.
        q: queries.
        k: keys.
        v: values.
        weights: learned tensors of the feature maps, (H, 1, ...) each, in float32 or wider.
        plain: the same function of q, k, v and weights, for gradients of gradients.
        onto: (B, H, N, E), in float32 or wider, to which the output is added in place: tile by
            tile, where no gradients are wanted and the kernel is not causal.
    """
    rows, num_heads, length = q.shape[:3]
    out: Tensor
    if rows > 1 and max(length, k.shape[2]) * num_heads <= room(kernel.num_features):
        out = _with_rows_as_heads(kernel, q, k, v, *weights, plain=plain)
        return out if onto is None else onto.add_(out)
    with without_autocast("cpu"):
        if torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v, *weights)):
            out = _ByTiles.apply(kernel, plain, q, k, v, *weights)  # type: ignore[no-untyped-call]
        elif onto is not None and not kernel.causal:
            return _engine_bidirectional.forward(
                kernel, q, k, v, weights, Tally(is_quiet=kernel.is_quiet), keep=False, onto=onto
            )[0]
        else:
            tally = Tally(is_quiet=kernel.is_quiet)
            out = _forward(kernel, q, k, v, weights, tally, keep=False)[0]
            if not tally.is_finite:
                out = once_more(plain, (q, k, v, *weights), out)
    if onto is not None:
        return onto.add_(out)
    look_at_no_more(out)
    return out


def _with_rows_as_heads(
    kernel: Kernel, q: Tensor, k: Tensor, v: Tensor, *weights: Tensor, plain: Plain
) -> Tensor:
    """Batch rows too short to fill a tile by themselves, side by side."""
    rows, num_heads = q.shape[:2]

    def plain_by_rows(q: Tensor, k: Tensor, v: Tensor, *repeated: Tensor) -> Tensor:
        apart = (torch.unflatten(x, 1, (rows, num_heads))[0] for x in (q, k, v))
        return plain(*apart, *(weight[:num_heads] for weight in repeated)).flatten(0, 1)[None]

    if kernel.turn is not None and len(kernel.turn) > 1:
        kernel = replace(kernel, turn=kernel.turn.repeat(rows, 1, 1))
    joined = (x.flatten(0, 1)[None] for x in (q, k, v))
    repeated = (weight.repeat(rows, *[1] * (weight.dim() - 1)) for weight in weights)
    out = attention_by_tiles(kernel, *joined, *repeated, plain=plain_by_rows)
    apart = torch.unflatten(out, 1, (rows, num_heads))[0]
    look_at_no_more(apart)
    return apart


def _forward(
    kernel: Kernel,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    weights: Sequence[Tensor],
    tally: Tally,
    *,
    keep: bool,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    forward = _engine_causal.forward if kernel.causal else _engine_bidirectional.forward
    return forward(kernel, q, k, v, weights, tally, keep=keep)


def _backward(
    kernel: Kernel,
    inputs: Sequence[Tensor],
    kept: Sequence[Tensor],
    grad_out: Tensor,
    tally: Tally,
) -> list[Tensor]:
    backward = _engine_causal.backward if kernel.causal else _engine_bidirectional.backward
    q, k, v, *weights = inputs
    with without_autocast("cpu"):
        return backward(kernel, q, k, v, weights, kept, grad_out, tally)


class _ByTiles(torch.autograd.Function):
    """The engine as one differentiable operator."""

    @staticmethod
    def forward(
        ctx: Any, kernel: Kernel, plain: Plain, q: Tensor, k: Tensor, v: Tensor, *weights: Tensor
    ) -> Tensor:
        tally = Tally(is_quiet=kernel.is_quiet)
        out, kept = _forward(kernel, q, k, v, weights, tally, keep=True)
        ctx.kernel, ctx.plain, ctx.num_inputs = kernel, plain, 3 + len(weights)
        ctx.is_finite = tally.is_finite
        ctx.save_for_backward(q, k, v, *weights, *kept)
        return out if ctx.is_finite else once_more(plain, (q, k, v, *weights), out)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        inputs, kept = saved[: ctx.num_inputs], saved[ctx.num_inputs :]
        kernel, wanted = ctx.kernel, ctx.needs_input_grad[2:]
        if torch.is_grad_enabled():
            return (None, None, *plain_gradients(ctx.plain, inputs, wanted, grads[0]))
        tally = Tally(is_quiet=kernel.is_quiet)
        found = _backward(kernel, inputs, kept, grads[0], tally)
        if not (ctx.is_finite and tally.is_finite):
            again = gradients_once_more(ctx.plain, inputs, wanted, grads[0])
            return (None, None, *(again or found))
        return (None, None, *found)


def plain_gradients(
    plain: Plain, inputs: Sequence[Tensor], wanted: Sequence[bool], grad_out: Tensor
) -> list[Tensor | None]:
    """By autograd, through the plain form, so that they can be differentiated in turn."""
    # Views: the same tensor may be both q and k, and each has a gradient of its own.
    separate = [x.view_as(x) for x in inputs]
    chosen = [x for x, needed in zip(separate, wanted, strict=True) if needed]
    found = iter(
        torch.autograd.grad(
            plain(*separate), chosen, grad_out, create_graph=True, allow_unused=True
        )
    )
    return [next(found) if needed else None for needed in wanted]
