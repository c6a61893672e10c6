"""Allowed errors: one table for every comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .check import Broken


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """Largest error that is allowed, relative to the largest expected entry.

    Attributes:
        output: of an output.
        gradient: of a gradient; relative to 1 if all entries are below 1, as it may be zero but for
            rounding.
    """

    output: float
    gradient: float


TOLERANCES = {
    torch.float64: Tolerance(output=1e-9, gradient=1e-8),
    torch.float32: Tolerance(output=1e-5, gradient=1e-4),
    torch.float16: Tolerance(output=2e-3, gradient=3e-2),
    torch.bfloat16: Tolerance(output=2e-2, gradient=1.5e-1),
}
AUTOCAST = Tolerance(output=1e-1, gradient=3e-1)
"""Weights and products are rounded to bfloat16."""


def require_near(got: Tensor, want: Tensor, what: str, allowed: Tolerance | None = None) -> None:
    """Raise `Broken` unless an output is near what is expected, by the tolerance of its dtype."""
    _require_within((allowed or TOLERANCES[got.dtype]).output, got, want, what, least=0.0)


def require_near_gradients(got: Sequence[Tensor], want: Sequence[Tensor], what: str) -> None:
    """Raise `Broken` unless each gradient is near what is expected, as `require_near`."""
    for place, (one, other) in enumerate(zip(got, want, strict=True)):
        tolerance = TOLERANCES[one.dtype].gradient
        _require_within(tolerance, one, other, f"gradient {place} of {what}", least=1.0)


def _require_within(tolerance: float, got: Tensor, want: Tensor, what: str, least: float) -> None:
    """Raise `Broken` if the error is too large, relative to the largest entry or to `least`."""
    shape, dtype = tuple(got.shape), str(got.dtype).removeprefix("torch.")
    if got.shape != want.shape:
        raise Broken(f"{what} in {dtype} is of shape {shape}, not {tuple(want.shape)}")
    if not got.numel():
        return
    error = float((got.detach().double() - want.detach().double()).abs().max())
    largest = float(want.detach().double().abs().max())
    if not error <= tolerance * max(largest, least):
        raise Broken(
            f"{what} in {dtype} of shape {shape} is off by {error:.3g} where the largest entry is "
            f"{largest:.3g}; {tolerance:g} of that is allowed"
        )
