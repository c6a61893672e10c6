"""NaLa's features for the engine: signed powers, split by sign.

A signed power is taken as x |x|^(p-1), where |x|^(p-1) = b^((p-1) log_b |x|) also is the
derivative, up to p. Its negative half stays negative on both sides: products do not notice. The
queries' power is one of the direction d, whose logarithms are small: those of a short x and of its
norm are not, and what their products lose to rounding would be lost to the features.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ._engine_functions import log_, log_base, power_
from ._engine_maps import FeatureMap, Parts, Pull
from .maths.feature_maps import SHORTEST

_LOG_OF_ZERO = -1e6


@dataclass(frozen=True)
class NormAwareQueries(FeatureMap):
    """sign(q) |q / ||q|| |^p with p = lam (tau + tanh ||q||), its positive and negative entries."""

    copies_alive = 4

    lam: float
    tau: float

    def features(self, x: Tensor, tokens: slice, *weights: Tensor) -> Parts:
        """Two parts, each as wide as x."""
        signed = norm_aware_direction(x, row_norm(x), self.lam, self.tau)
        return signed.clamp(min=0.0), signed.clamp_(max=0.0)

    def linearised(self, x: Tensor, tokens: slice, *weights: Tensor) -> tuple[Parts, Pull]:
        """Through the direction and through the power, which the norm sets."""
        power = NormAwarePower.of(x, self.lam, self.tau)
        signed = power.direction.mul_(power.slope)  # the direction has done its part
        above, below = parts = signed.clamp(min=0.0), signed.clamp_(max=0.0)

        def pull(grads: Parts) -> tuple[Tensor, ...]:
            along = power.along((grads[0] * above).addcmul_(grads[1], below))
            grad = joined_(above, grads)
            return (grad.mul_(power.slope).mul_(power.power / power.norm).add_(x * along),)

        return parts, pull


@dataclass(frozen=True)
class SignedPowers(FeatureMap):
    """sign(k) |k|^power, its positive and negative entries."""

    power: float

    def features(self, x: Tensor, tokens: slice, *weights: Tensor) -> Parts:
        """Two parts, each as wide as x."""
        signed = power_slope(x, self.power).mul_(x)
        return signed.clamp(min=0.0), signed.clamp_(max=0.0)

    def linearised(self, x: Tensor, tokens: slice, *weights: Tensor) -> tuple[Parts, Pull]:
        """Power |k|^(power - 1)."""
        slope = power_slope(x, self.power)
        signed = slope * x
        above, below = signed.clamp(min=0.0), signed.clamp_(max=0.0)

        def pull(grads: Parts) -> tuple[Tensor, ...]:
            return (joined_(above, grads).mul_(slope).mul_(self.power),)

        return (above, below), pull


def joined_(above: Tensor, grads: Parts) -> Tensor:
    """The gradient of each entry: that of the part which it is in. Written over the second one.

    Args:
        above: the positive part.
        grads: of the positive part and of the negative one.
    """
    d_above, d_below = grads
    is_above = torch.gt(above, 0, out=torch.empty_like(above))
    return d_below.lerp_(d_above, is_above)


def power_slope(x: Tensor, power: float) -> Tensor:
    """|x|^(power - 1), fresh; at zero it is zero, also for a power of 1."""
    if power == 3:
        return x * x
    if power == 1:
        return x.sign().abs_()
    return power_(log_size(x).mul_(power - 1))


def norm_aware_direction(x: Tensor, norm: Tensor, lam: float, tau: float) -> Tensor:
    """sign(x) |x / ||x|| |^p, fresh."""
    direction = x * norm.reciprocal()  # a product outruns a quotient
    power = norm.tanh().add_(tau).mul_(lam)
    return power_(log_size(direction).mul_(power.sub_(1))).mul_(direction)


@dataclass(frozen=True)
class NormAwarePower:
    """|d|^p of the rows of x with d = x / ||x||, p = lam (tau + tanh ||x||), and its derivative.

    Attributes:
        lam: scale of the power.
        norm: ||x||, (heads, n, 1).
        saturation: tanh ||x||.
        power: p.
        direction: d, (heads, n, D), for who needs its power to write it over.
        log: of |d|, to the base of `power_`.
        slope: |d|^(p - 1), the derivative in |d| of |d|^p over p.
    """

    lam: float
    norm: Tensor
    saturation: Tensor
    power: Tensor
    direction: Tensor
    log: Tensor
    slope: Tensor

    @classmethod
    def of(cls, x: Tensor, lam: float, tau: float) -> NormAwarePower:
        """All of it, from x."""
        norm = row_norm(x)
        saturation = norm.tanh()
        power = (saturation + tau).mul_(lam)
        direction = x * norm.reciprocal()
        log = log_size(direction)
        slope = power_(log * (power - 1))
        if lam * tau == 1:  # the power of a row of zeros, whose |x| has no derivative
            slope.mul_(x.sign().abs_())
        return cls(lam, norm, saturation, power, direction, log, slope)

    def along(self, share: Tensor) -> Tensor:
        """What comes by the norm: a multiple of x, (heads, n, 1).

        Args:
            share: the gradient of |d|^p times |d|^p, which is written over.
        """
        total = share.sum(dim=-1, keepdim=True)
        by_log = share.mul_(self.log).sum(dim=-1, keepdim=True)
        d_power = by_log.mul_(self.lam / log_base(math.e)).mul_(1 - self.saturation.square())
        return (d_power - self.power * total / self.norm) / self.norm


def row_norm(x: Tensor) -> Tensor:
    """(heads, n, 1), never zero."""
    norm: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return norm.clamp_(min=SHORTEST)


def log_size(x: Tensor) -> Tensor:
    """Of |x|, fresh; of zero not minus infinity, but so low that any power of it is zero."""
    return log_(x.abs()).clamp_(min=_LOG_OF_ZERO)
