"""Elementary functions for the engine, each by what computes it fastest on this processor.

Torch has exp, log, tanh and sin of a tensor from MKL, and exp2, log2 and sigmoid from vector code
of its own. MKL's are the faster ones on Intel's processors, where e is the base of all powers here;
elsewhere MKL keeps to narrower vectors, and the base is 2.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ._engine_processor import is_intel


def _numbers(*numbers: float) -> tuple[Tensor, ...]:
    """As operators take them that know of no Python numbers."""
    return tuple(torch.tensor(x, dtype=torch.float32, device="cpu") for x in numbers)


_SINE = _numbers(
    0.9999999969177036, -0.16666650673996578, 0.008332035785589385, -0.00019503904250060925
)
"""sin(t) / t in powers of t^2, the interpolant at Chebyshev's points: off by 3.4e-9 at most."""
_COSINE = _numbers(
    0.9999999723284939, -0.4999985641918268, 0.04165501492490696, -0.001358577926508799
)
"""cos(t) likewise: off by 2.8e-8 at most."""


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


def cos_and_sin_of_eighth_(x: Tensor) -> tuple[Tensor, Tensor]:
    """Of an angle within an eighth of a turn, which is written over.

    In float32, for which short polynomials are meant, off by two units in the last place at most.
    """
    if mkl_is_faster() or x.dtype != torch.float32:
        sin = x.sin_()
        return torch.rsub(sin * sin, 1).sqrt_(), sin
    square = x * x
    sin = torch.mul(_series(_SINE, square, torch.empty_like(x)), x, out=x)
    return _series(_COSINE, square, torch.empty_like(x)), sin


def _series(coefficients: Sequence[Tensor], x: Tensor, out: Tensor) -> Tensor:
    """A cubic polynomial, by Horner's rule with as few passes as there are operators for."""
    torch.mul(x, coefficients[3], out=out).add_(coefficients[2])
    torch.addcmul(coefficients[1], out, x, out=out)
    return torch.addcmul(coefficients[0], out, x, out=out)
