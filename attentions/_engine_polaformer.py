"""PolaFormer's features for the engine: signed learned powers, split by sign."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor

from ._engine_functions import log_base, power_
from ._engine_kernel import Reading, Sums
from ._engine_maps import FeatureMap, Parts, Pull
from ._engine_nala import joined_, log_size


class LearnedPowers(FeatureMap):
    """sign(x) |x|^p b^-c, its positive and negative entries, with weights p and c of (H, 1, D).

    A scale s before the power is c = p log_b s, to the base b of `power_`. The negative half stays
    negative on both sides; what meets across is read from sums of the other sign, see
    `like_and_unlike`.
    """

    copies_alive = 4

    def features(self, x: Tensor, tokens: slice, *weights: Tensor) -> Parts:
        """Two parts, each as wide as x."""
        power, c = weights
        signed = power_(log_size(x).mul_(power - 1).sub_(c)).mul_(x)
        return signed.clamp(min=0.0), signed.clamp_(max=0.0)

    def linearised(self, x: Tensor, tokens: slice, *weights: Tensor) -> tuple[Parts, Pull]:
        """In x, p and c."""
        power, c = weights
        log_x = log_size(x)
        slope = power_((log_x * (power - 1)).sub_(c))
        signed = slope * x
        above, below = signed.clamp(min=0.0), signed.clamp_(max=0.0)

        def pull(grads: Parts) -> tuple[Tensor, ...]:
            share = (grads[0] * above).addcmul_(grads[1], below)
            d_c = share.sum(dim=1, keepdim=True).div_(-log_base(math.e))
            d_power = share.mul_(log_x).sum(dim=1, keepdim=True).div_(log_base(math.e))
            return joined_(above, grads).mul_(slope).mul_(power), d_power, d_c

        return (above, below), pull


def like_and_unlike(first: int) -> Callable[[Sums], tuple[Reading, ...]]:
    """Read the first columns from sums of the same sign, the others from sums of the other sign.

    Values met features whose negative half is below zero: where it meets the positive half of the
    other side, the product's sign is turned back.
    """

    def gather(sums: Sums) -> tuple[Reading, ...]:
        (plus, minus), (plus_sum, minus_sum) = sums.contexts, sums.key_sums
        like = Sums(
            contexts=(plus[..., :first, :], minus[..., :first, :]),
            key_sums=(plus_sum, minus_sum),
        )
        if first == plus.shape[-2]:
            return (Reading(columns=slice(0, first), sums=like),)
        unlike = Sums(
            contexts=(-minus[..., first:, :], -plus[..., first:, :]),
            key_sums=(-minus_sum, -plus_sum),
        )
        return (
            Reading(columns=slice(0, first), sums=like),
            Reading(columns=slice(first, plus.shape[-2]), sums=unlike),
        )

    return gather
