"""Efficient Attention for the engine: softmax over channels, and softmax over tokens."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ._engine_kernel import Reading, Sums
from ._engine_maps import FeatureMap, Parts, PeakedMap, Pull


class ChannelShares(FeatureMap):
    """softmax(q) over channels."""

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

    def rising(
        self, x: Tensor, tokens: slice, peak: Tensor, *weights: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The peak is (heads, 1, D)."""
        risen = torch.maximum(peak, x.amax(dim=1, keepdim=True))
        return self.features(x, tokens, risen)[0], risen

    def features(self, x: Tensor, tokens: slice, *weights: Tensor) -> Parts:
        """One part, as wide as x."""
        return ((x - weights[-1]).mul_(math.log2(math.e)).exp2_(),)

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
