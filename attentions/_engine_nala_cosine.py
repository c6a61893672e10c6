"""The features of NaLa with cosine inhibition for the engine: m [cos theta; sin theta].

theta = pi / 4 tanh(y) stays within an eighth of a turn. Where that is faster it is taken as
pi / 2 sigmoid(2 y) - pi / 4.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ._engine_functions import cos_and_sin_of_eighth_, mkl_is_faster
from ._engine_maps import FeatureMap, Parts, Pull
from ._engine_nala import NormAwarePower, norm_aware_direction, power_slope, row_norm


def _gate(x: Tensor, norm: Tensor, alpha: float) -> Tensor:
    """tanh(y) with y = alpha x / ||x||, or sigmoid(2 y)."""
    if mkl_is_faster():
        return (x * (alpha / norm)).tanh_()
    return (x * (2 * alpha / norm)).sigmoid_()


def _theta(gate: Tensor, out: Tensor) -> Tensor:
    """From a gate, into ``out``, which may be the gate."""
    if mkl_is_faster():
        return torch.mul(gate, math.pi / 4, out=out)
    return torch.mul(gate, math.pi / 2, out=out).sub_(math.pi / 4)


def _through_gate_(d_theta: Tensor, gate: Tensor, factor: Tensor) -> Tensor:
    """The gradient of y, times a factor; written over ``d_theta``."""
    if mkl_is_faster():
        torch.ops.aten.tanh_backward(d_theta, gate, grad_input=d_theta)
        return d_theta.mul_(math.pi / 4 * factor)
    torch.ops.aten.sigmoid_backward(d_theta, gate, grad_input=d_theta)
    return d_theta.mul_(math.pi * factor)


def _turned(x: Tensor, norm: Tensor, alpha: float, size: Tensor) -> Parts:
    """The two parts alone: all but four tensors is written over, as a tile must not be large."""
    gate = _gate(x, norm, alpha)
    cos, sin = cos_and_sin_of_eighth_(_theta(gate, out=gate))
    return cos.mul_(size), sin.mul_(size)


@dataclass(frozen=True)
class _Angle:
    """theta = pi / 4 tanh(alpha x / ||x||) of each entry.

    Attributes:
        alpha: how fast the angle saturates.
        norm: ||x||, (heads, n, 1).
        gate: see `_gate`, (heads, n, D).
        cos: of theta.
        sin: of theta.
    """

    alpha: float
    norm: Tensor
    gate: Tensor
    cos: Tensor
    sin: Tensor

    @classmethod
    def of(cls, x: Tensor, norm: Tensor, alpha: float) -> _Angle:
        gate = _gate(x, norm, alpha)
        theta = _theta(gate, out=torch.empty_like(gate))
        return cls(alpha, norm, gate, *cos_and_sin_of_eighth_(theta))

    def turned(self, size: Tensor) -> Parts:
        """The two parts, the second of them written over ``size``."""
        return size * self.cos, size.mul_(self.sin)

    def d_size(self, grads: Parts) -> Tensor:
        """The gradient of the size."""
        return (grads[0] * self.cos).addcmul_(grads[1], self.sin)

    def d_x(self, parts: Parts, grads: Parts, x: Tensor) -> tuple[Tensor, Tensor]:
        """The gradient of x at a fixed norm, and by the norm as a multiple of x.

        The first is written over the second of ``grads``, and the first of those is scratch.
        """
        scratch, d_theta = grads[0], grads[1].mul_(parts[0])
        d_theta.addcmul_(grads[0], parts[1], value=-1)
        d_x = _through_gate_(d_theta, self.gate, self.alpha / self.norm)
        total = torch.mul(d_x, x, out=scratch).sum(dim=-1, keepdim=True)
        return d_x, total.div_(self.norm).div_(self.norm).neg_()


@dataclass(frozen=True)
class InhibitedQueries(FeatureMap):
    """m = |q / ||q|| |^p with p = lam (tau + tanh ||q||)."""

    copies_alive = 10

    lam: float
    tau: float
    alpha: float

    def features(self, x: Tensor, tokens: slice, *weights: Tensor) -> Parts:
        """Two parts, each as wide as x."""
        norm = row_norm(x)
        size = norm_aware_direction(x, norm, self.lam, self.tau).abs_()
        return _turned(x, norm, self.alpha, size)

    def linearised(self, x: Tensor, tokens: slice, *weights: Tensor) -> tuple[Parts, Pull]:
        """Through size, angle and norm."""
        power = NormAwarePower.of(x, self.lam, self.tau)
        angle = _Angle.of(x, power.norm, self.alpha)
        # The direction has done its part.
        parts = angle.turned(power.direction.mul_(power.slope).abs_())

        def pull(grads: Parts) -> tuple[Tensor, ...]:
            by_power = power.along((grads[0] * parts[0]).addcmul_(grads[1], parts[1]))
            d_size = angle.d_size(grads)
            d_x, along = angle.d_x(parts, grads, x)
            scratch = grads[0]
            by_size = d_size.mul_(power.slope).mul_(power.power / power.norm)
            d_x.add_(by_size.mul_(torch.sign(x, out=scratch)))
            return (d_x.add_(torch.mul(x, along.add_(by_power), out=scratch)),)

        return parts, pull


@dataclass(frozen=True)
class InhibitedKeys(FeatureMap):
    """m = |k|^power."""

    power: float
    alpha: float

    def features(self, x: Tensor, tokens: slice, *weights: Tensor) -> Parts:
        """Two parts, each as wide as x."""
        size = power_slope(x, self.power).mul_(x).abs_()
        return _turned(x, row_norm(x), self.alpha, size)

    def linearised(self, x: Tensor, tokens: slice, *weights: Tensor) -> tuple[Parts, Pull]:
        """Through size and angle."""
        slope, angle = (
            power_slope(x, self.power).mul_(x.sign()),
            _Angle.of(x, row_norm(x), self.alpha),
        )
        parts = angle.turned(slope * x)

        def pull(grads: Parts) -> tuple[Tensor, ...]:
            by_size = angle.d_size(grads).mul_(slope).mul_(self.power)
            d_x, along = angle.d_x(parts, grads, x)
            scratch = grads[0]
            return (d_x.add_(by_size).add_(torch.mul(x, along, out=scratch)),)

        return parts, pull
