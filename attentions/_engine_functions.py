"""Elementary functions for the engine, each by what computes it fastest on this processor.

Torch has exp, log, tanh, sin and sqrt of a tensor from MKL, and exp2, log2, sigmoid and rsqrt from
vector code of its own. MKL's are the faster ones on Intel's processors, where e is the base of all
powers here; elsewhere MKL keeps to narrower vectors, and the base is 2.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

from ._engine_processor import is_intel

_SINE = (0.9999999969177036, -0.16666650673996578, 0.008332035785589385, -0.00019503904250060925)
"""sin(t) / t in powers of t^2, the interpolant at Chebyshev's points: off by 3.4e-9 at most."""


@functools.cache
def mkl_is_faster() -> bool:
    """Whether MKL's functions outrun torch's own."""
    return is_intel() and torch.backends.mkl.is_available()


def log_base(number: float) -> float:
    """The logarithm of a number to the base of `power_` and `log_`."""
    return math.log(number) if mkl_is_faster() else math.log2(number)


def power_(x: Tensor) -> Tensor:
    """The base to the power of x, in place."""
    return x.exp_() if mkl_is_faster() else x.exp2_()


def log_(x: Tensor) -> Tensor:
    """The logarithm of x, in place."""
    return x.log_() if mkl_is_faster() else x.log2_()


def exp_(x: Tensor) -> Tensor:
    """e^x, in place."""
    return x.exp_() if mkl_is_faster() else x.mul_(math.log2(math.e)).exp2_()


def sqrt_(x: Tensor) -> Tensor:
    """The root of x > 0, in place."""
    return x.sqrt_() if mkl_is_faster() else torch.mul(x.rsqrt(), x, out=x)


def sin_of_eighth_(x: Tensor) -> Tensor:
    """The sine of x, in place, within an eighth of a turn; no further off than `torch.sin`.

    That holds in float32, for which a short polynomial is meant.
    """
    if mkl_is_faster() or x.dtype != torch.float32:
        return x.sin_()
    square = x * x
    series = square * _SINE[3]
    for coefficient in _SINE[2:0:-1]:
        series.add_(coefficient).mul_(square)
    return torch.mul(series.add_(_SINE[0]), x, out=x)
