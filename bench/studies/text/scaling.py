"""A power law of loss over parameters and updates, to predict the loss of the largest model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

NUM_COEFFICIENTS = 3


@dataclass(frozen=True, kw_only=True)
class Point:
    """One trained model: parameters, updates, and bits per byte of unseen text."""

    num_parameters: int
    num_steps: int
    loss: float

    @property
    def size(self) -> tuple[int, int]:
        """Parameters and updates."""
        return self.num_parameters, self.num_steps


@dataclass(frozen=True, kw_only=True)
class PowerLaw:
    """log L = a + b log N + c log D, least squares, without a floor.

    L is the loss in bits per byte, N the number of parameters, D the number of updates.

    Attributes:
        coefficients: a, b, c.
        spread: standard deviation of the residuals of log L.
        inverse: (X^T X)^-1 of the fit, row by row.
        degrees: degrees of freedom, points minus coefficients.
    """

    coefficients: tuple[float, ...]
    spread: float
    inverse: tuple[tuple[float, ...], ...]
    degrees: int

    @property
    def exponents(self) -> tuple[tuple[float, float, float], ...]:
        """Exponents of parameters and of updates, each with the ends of its 95 % interval."""
        halves = [self._t * self.spread * math.sqrt(self.inverse[i][i]) for i in (1, 2)]
        values = zip(self.coefficients[1:], halves, strict=True)
        return tuple((value, value - half, value + half) for value, half in values)

    @property
    def _t(self) -> float:
        from scipy import special

        return float(special.stdtrit(self.degrees, 0.975))

    def predicted(self, num_parameters: int, num_steps: int) -> tuple[float, float, float]:
        """Predicted loss of a model, and the ends of its 95 % prediction interval."""
        x = np.array([1.0, math.log(num_parameters), math.log(num_steps)])
        centre = float(x @ np.array(self.coefficients))
        half = self._t * self.spread * math.sqrt(1 + float(x @ np.array(self.inverse) @ x))
        return math.exp(centre), math.exp(centre - half), math.exp(centre + half)


def power_law(points: Sequence[Point]) -> PowerLaw | None:
    """Fit a power law; None with too few points, or if the two sizes do not vary independently."""
    x = np.array([[1.0, math.log(p.num_parameters), math.log(p.num_steps)] for p in points])
    degrees = len(points) - NUM_COEFFICIENTS
    if degrees < 1 or np.linalg.matrix_rank(x) < NUM_COEFFICIENTS:
        return None
    y = np.log([p.loss for p in points])
    found, *_ = np.linalg.lstsq(x, y, rcond=None)
    residuals = y - x @ found
    return PowerLaw(
        coefficients=tuple(map(float, found)),
        spread=math.sqrt(float(residuals @ residuals) / degrees),
        inverse=tuple(tuple(map(float, row)) for row in np.linalg.inv(x.T @ x)),
        degrees=degrees,
    )


def smaller(points: Sequence[Point], size: tuple[int, int], axes: Sequence[int]) -> Point | None:
    """The next smaller model on some axes, 0 for parameters and 1 for updates, equal on others."""
    wanted = list(size)
    for axis in axes:
        wanted[axis] = max((p.size[axis] for p in points if p.size[axis] < size[axis]), default=0)
    return next((point for point in points if [*point.size] == wanted), None)


def law_without_widest(points: Sequence[Point]) -> tuple[PowerLaw | None, list[Point]]:
    """The law of all models but those with the most parameters, and these."""
    most = max((point.num_parameters for point in points), default=0)
    rest = [point for point in points if point.num_parameters < most]
    return power_law(rest) if rest else None, [p for p in points if p.num_parameters == most]
