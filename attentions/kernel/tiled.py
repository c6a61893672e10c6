"""Tiles as one differentiable operator, twice: gradients of gradients are those of the formula."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..precision import within_range, without_autocast
from . import causal, tiles, tiles_back
from .derivatives import Parts
from .plain import plain
from .tiles import Call


def tiled(call: Call, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """(B, H, N, D), (B, H, M, D), (B, H, M, E) -> (B, H, N, E)."""
    out: Tensor = _Tiled.apply(call, q, k, v, *call.weights)[0]  # type: ignore[no-untyped-call]
    return out


class _Tiled(torch.autograd.Function):
    @staticmethod
    def forward(call: Call, q: Tensor, k: Tensor, v: Tensor, *weights: Tensor) -> Parts:
        """The output, and sums over keys for the backward pass."""
        forward = causal.forward if call.core.geometry.causal else tiles.forward
        out, kept = forward(call, q, k, v)
        return out, *kept

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Parts) -> None:
        ctx.call, ctx.num_inputs = inputs[0], len(inputs) - 1
        ctx.save_for_backward(*inputs[1:], *output[1:])
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)

    @staticmethod
    def vmap(info: Any, in_dims: Any, *inputs: Any) -> tuple[Parts, None]:
        """None of them is mapped over, or they would not be here."""
        return _Tiled.apply(*inputs), None  # type: ignore[no-untyped-call]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        if grads[0] is None:
            return tuple([None] * (1 + ctx.num_inputs))
        saved = ctx.saved_tensors  # read once: a checkpoint unpacks them a single time
        inputs, kept = saved[: ctx.num_inputs], saved[ctx.num_inputs :]
        with without_autocast(inputs[0].device.type):
            if torch.is_grad_enabled():
                return None, *_plain_gradients(ctx.call, inputs, ctx.needs_input_grad[1:], grads[0])
            q, k, v, *weights = inputs
            call = replace(ctx.call, weights=tuple(weights))
            backward = causal.backward if call.core.geometry.causal else tiles_back.backward
            return None, *backward(call, q, k, v, kept, grads[0])


def _plain_gradients(
    call: Call, inputs: Sequence[Tensor], wanted: Sequence[bool], grad_out: Tensor
) -> list[Tensor | None]:
    """Through the plain formula, so that they can be differentiated in turn."""
    # Views: the same tensor may be both q and k, and each has a gradient of its own.
    q, k, v, *weights = separate = [x.view_as(x) for x in inputs]
    out = plain(replace(call, weights=tuple(weights)), q, k, v)
    out = within_range(out, q.dtype)
    chosen = [x for x, needed in zip(separate, wanted, strict=True) if needed]
    found = iter(torch.autograd.grad(out, chosen, grad_out, create_graph=True, allow_unused=True))
    return [next(found) if needed else None for needed in wanted]
