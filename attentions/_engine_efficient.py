"""Efficient Attention for the engine: softmax over channels, and softmax over tokens."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ._engine import Plain, plain_gradients
from ._engine_functions import exp_
from ._engine_kernel import Reading, Sums
from ._engine_maps import FeatureMap, Parts, PeakedMap, Pull
from ._engine_threads import alone_if_few
from ._in_float64 import look_at_no_more_if_sound


class ChannelShares(FeatureMap):
    """softmax(q) over channels."""

    is_quiet = False

    def features(self, x: Tensor, tokens: slice, *weights: Tensor) -> Parts:
        """One part, as wide as x."""
        return (x.softmax(dim=-1),)

    def linearised(self, x: Tensor, tokens: slice, *weights: Tensor) -> tuple[Parts, Pull]:
        """Share (grad - their mean under the shares)."""
        shares = x.softmax(dim=-1)

        def pull(grads: Parts) -> tuple[Tensor, ...]:
            return (torch.ops.aten._softmax_backward_data(grads[0], shares, -1, shares.dtype),)

        return (shares,), pull


class TokenExponentials(PeakedMap):
    """exp(k - peak), with a peak per channel over all tokens; `over_their_sum` divides."""

    is_quiet = False

    def rising(
        self, x: Tensor, tokens: slice, peak: Tensor, *weights: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The peak is (heads, 1, D)."""
        risen = torch.maximum(peak, x.amax(dim=1, keepdim=True))
        return self.features(x, tokens, risen)[0], risen

    def features(self, x: Tensor, tokens: slice, *weights: Tensor) -> Parts:
        """One part, as wide as x."""
        return (exp_(x - weights[-1]),)

    def linearised(self, x: Tensor, tokens: slice, *weights: Tensor) -> tuple[Parts, Pull]:
        """An exponential is its own derivative."""
        parts = self.features(x, tokens, *weights)
        return parts, lambda grads: (parts[0] * grads[0],)


def over_their_sum(sums: Sums) -> tuple[Reading, ...]:
    """Contexts of softmax(k) over tokens: those of exponentials over the sum of these."""
    shares = tuple(
        context / key_sum.transpose(-2, -1)
        for context, key_sum in zip(sums.contexts, sums.key_sums, strict=True)
    )
    return (Reading(columns=slice(None), sums=Sums(contexts=shares, key_sums=sums.key_sums)),)


def one_tile(q: Tensor, k: Tensor, v: Tensor, *, plain: Plain) -> Tensor:
    """What is a single tile, whole: torch's own softmax over tokens is faster there.

    It runs by hand for the sake of its backward pass, which knows of threads that sleep. Float32
    or float64.

    Args:
        q: (B, H, N, D).
        k: (B, H, M, D).
        v: (B, H, M, E).
        plain: the same function, for gradients of gradients.
    """
    if torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v)):
        out: Tensor = _OneTile.apply(plain, q, k, v)  # type: ignore[no-untyped-call]
        return out
    with alone_if_few(q, k, v):
        found = q.softmax(dim=-1) @ (k.softmax(dim=-2).transpose(-2, -1) @ v)
        look_at_no_more_if_sound(found)
        return found


class _OneTile(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, plain: Plain, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        with alone_if_few(q, k, v):
            shares_q, shares_k = q.softmax(dim=-1), k.softmax(dim=-2)
            context = shares_k.transpose(-2, -1) @ v
            ctx.plain = plain
            ctx.save_for_backward(q, k, v, shares_q, shares_k, context)
            return shares_q @ context

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, shares_q, shares_k, context = ctx.saved_tensors
        if torch.is_grad_enabled():
            wanted = ctx.needs_input_grad[1:]
            return (None, *plain_gradients(ctx.plain, (q, k, v), wanted, grads[0]))
        with alone_if_few(q, k, v):
            d_context = shares_q.transpose(-2, -1) @ grads[0]
            d_shares_q = grads[0] @ context.transpose(-2, -1)
            d_shares_k = v @ d_context.transpose(-2, -1)
            of_softmax = torch.ops.aten._softmax_backward_data
            return (
                None,
                of_softmax(d_shares_q, shares_q, -1, q.dtype),
                of_softmax(d_shares_k, shares_k, -2, k.dtype),
                shares_k @ d_context,
            )
