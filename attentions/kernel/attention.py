"""Kernel attention: the weight of a pair is phi(q) . phi(k), so keys and values can meet first.

    out_i = sum_j phi(q_i) . phi(k_j) v_j / (sum_j phi(q_i) . phi(k_j) + eps)

On a CPU, in eager mode and without a mask, it is computed tile by tile: intermediate results stay
in the cache, and only sums over keys are kept for the backward pass, which recomputes features.
Everywhere else, and for gradients of gradients, it is the formula over whole tensors. Both call the
same feature maps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..precision import widen, without_autocast
from . import causal as causal_tiles
from . import tiles
from .applies import is_tiled
from .maps import Call, FeatureMap, Gather
from .plain import plain_attention


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *weights: Tensor,
    queries: FeatureMap,
    keys: FeatureMap,
    eps: float | None = 0.0,
    mean: bool = False,
    least: float = 0.0,
    turn: Tensor | None = None,
    causal: bool = False,
    joint_heads: bool = False,
    gather: Gather | None = None,
    columns: tuple[int, ...] | None = None,
    key_mask: Tensor | None = None,
) -> Tensor:
    """(B, H, N, D), (B, H, M, D), (B, H, M, E) -> (B, H, N, E), in the dtype of q.

    Half tensors are computed in float32.

    Args:
        q: queries.
        k: keys.
        v: values.
        weights: learned tensors of the feature maps, (H, ...) each, in float32 or wider; both maps
            get all of them, and under tiles those of some heads.
        queries: the feature map of the queries.
        keys: the feature map of the keys.
        eps: added to the sum of weights; None for no division.
        mean: whether ``eps`` is added to the mean weight instead.
        least: what divides is this at least.
        turn: unit complex numbers that rotate adjacent features in the numerator, (1 or H, N, F /
            2) for parts of F features.
        causal: whether query i sees keys 0..i only. Not with a turn, a floor, joint heads or a
            gather.
        joint_heads: whether the features of a head depend on the other heads.
        gather: from what the keys leave behind, sums of phi(k) v^T, (..., F, E) per part, and of
            phi(k), (..., F, 1) per part, to what queries read, (..., F, E) and (..., F, C) per
            part.
        columns: widths of the C groups of output columns, each divided by a sum of its own.
        key_mask: (B, M), False hides a key. A query whose keys are all hidden gets zeros.
    """
    call = Call(
        queries=queries,
        keys=keys,
        eps=eps,
        mean=mean,
        least=least,
        turn=turn,
        causal=causal,
        joint_heads=joint_heads,
        gather=gather,
        columns=columns,
    )
    with without_autocast(q.device.type):
        if key_mask is not None or not is_tiled(q, k, v, *weights):
            wide = (widen(q), widen(k), widen(v))
            return plain_attention(call, *wide, weights, key_mask).to(q.dtype)
        if torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v, *weights)):
            out: Tensor = _Tiled.apply(call, q, k, v, *weights)  # type: ignore[no-untyped-call]
            return out
        out, _ = _tiles_of(call).forward(call, q, k, v, weights)
        return out


def _tiles_of(call: Call) -> Any:
    return causal_tiles if call.causal else tiles


class _Tiled(torch.autograd.Function):
    """The tiled code path as one differentiable operator."""

    @staticmethod
    def forward(ctx: Any, call: Call, q: Tensor, k: Tensor, v: Tensor, *weights: Tensor) -> Tensor:
        out, kept = _tiles_of(call).forward(call, q, k, v, weights)
        ctx.call, ctx.num_inputs = call, 3 + len(weights)
        ctx.save_for_backward(q, k, v, *weights, *kept)
        return out  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        saved, call = ctx.saved_tensors, ctx.call
        inputs, kept = saved[: ctx.num_inputs], saved[ctx.num_inputs :]
        q, k, v, *weights = inputs
        with without_autocast(q.device.type):
            if torch.is_grad_enabled():
                return (None, *_plain_gradients(call, inputs, ctx.needs_input_grad[1:], grads[0]))
            return (None, *_tiles_of(call).backward(call, q, k, v, weights, kept, grads[0]))


def _plain_gradients(
    call: Call, inputs: Sequence[Tensor], wanted: Sequence[bool], grad_out: Tensor
) -> list[Tensor | None]:
    """Through the plain formula, so that they can be differentiated in turn."""
    # Views: the same tensor may be both q and k, and each has a gradient of its own.
    q, k, v, *weights = separate = [x.view_as(x) for x in inputs]
    out = plain_attention(call, widen(q), widen(k), widen(v), weights).to(q.dtype)
    chosen = [x for x, needed in zip(separate, wanted, strict=True) if needed]
    found = iter(torch.autograd.grad(out, chosen, grad_out, create_graph=True, allow_unused=True))
    return [next(found) if needed else None for needed in wanted]
