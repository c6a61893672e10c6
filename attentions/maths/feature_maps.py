"""Feature maps that more than one mechanism uses."""

from __future__ import annotations

import math

import torch
from torch import Tensor

LOG2_E = math.log2(math.e)
SHORTEST = 1e-15
"""Shorter vectors have less and less of a direction. Their squares are still float32 numbers."""


def exp_(x: Tensor) -> Tensor:
    """e^x in place, as a power of 2."""
    return x.mul_(LOG2_E).exp2_()


def elu_plus_one(x: Tensor) -> Tensor:
    """elu(x) + 1, which is exp(x) below 0 and x + 1 above; exactly so, however negative x is."""
    above = x.relu()
    return exp_(x - above) + above


def norm_and_inverse(x: Tensor) -> tuple[Tensor, Tensor]:
    """||x|| over the last axis, at least `SHORTEST`, and 1 / ||x||, which is 0 below that."""
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True).clamp(min=SHORTEST)
    return norm, norm.reciprocal().masked_fill(norm <= SHORTEST, 0.0)


def direction(x: Tensor) -> tuple[Tensor, Tensor]:
    """(x / ||x||, ||x||) over the last axis. Zero has direction zero, and gradient zero."""
    norm, inverse = norm_and_inverse(x)
    return x * inverse, norm


def log2_size(x: Tensor) -> Tensor:
    """log2 |x|; of zero that of the smallest normal number, so powers and gradients are finite."""
    return x.abs().clamp(min=torch.finfo(x.dtype).tiny).log2_()


def power_slope(x: Tensor, power: float) -> Tensor:
    """|x|^(power - 1): times x it is the signed power, times ``power`` its derivative."""
    return x * x if power == 3 else (log2_size(x) * (power - 1)).exp2_()


def signed_power(x: Tensor, power: Tensor | float) -> Tensor:
    """sign(x) |x|^power, with finite gradients at zero for a power of 1 or more."""
    if isinstance(power, Tensor):
        return x * (log2_size(x) * (power - 1)).exp2_()
    return x * power_slope(x, power)


def split_signs(signed: Tensor) -> tuple[Tensor, Tensor]:
    """Positive and negative entries. The latter keep their sign on both sides, which cancels."""
    return signed.clamp(min=0.0), signed.clamp(max=0.0)


def square(x: Tensor, *, joint: bool) -> Tensor:
    """||x||^2 over the channels of a head, or of all: (..., H, N, D) -> (..., H or 1, N, 1)."""
    length: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return length.square().sum(dim=-3, keepdim=True) if joint else length.square()


def unit_of(x: Tensor, power: float, *, joint: bool) -> Tensor:
    """Divisor of x with which the largest x^power of a head, or of all heads, is 2^30.

    Squares of powers that large can be summed in float32, and those of far smaller entries are not
    yet subnormal. The unit is meant to cancel, so no gradient goes to it.
    """
    peak: Tensor = x.detach().amax(dim=-1, keepdim=True)
    largest = peak.amax(dim=-3, keepdim=True) if joint else peak
    return largest * float(2.0 ** (-30 / power))
