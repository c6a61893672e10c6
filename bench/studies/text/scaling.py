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


@dataclass(frozen=True, kw_only=True)
class Smaller:
    """The next smaller models of one: with fewer updates, with fewer parameters, with both."""

    updates: Point
    parameters: Point
    both: Point

    @property
    def predicted(self) -> float:
        """Loss by a rule without a law: more updates lower both widths by the same factor."""
        return self.updates.loss * self.parameters.loss / self.both.loss


def smaller(points: Sequence[Point], size: tuple[int, int]) -> Smaller | None:
    """The next smaller models of a size; None if one of them was not trained."""
    by_size = {point.size: point for point in points}
    num_parameters, num_steps = (
        max((p.size[axis] for p in points if p.size[axis] < size[axis]), default=None)
        for axis in (0, 1)
    )
    if num_parameters is None or num_steps is None:
        return None
    sizes = ((size[0], num_steps), (num_parameters, size[1]), (num_parameters, num_steps))
    found = [by_size[each] for each in sizes if each in by_size]
    if len(found) < len(sizes):
        return None
    return Smaller(updates=found[0], parameters=found[1], both=found[2])


def without_largest(points: Sequence[Point]) -> tuple[PowerLaw | None, list[Point]]:
    """The law of all models but those with the most parameters, and these, by rising updates."""
    most = max((point.num_parameters for point in points), default=0)
    held_out = [point for point in points if point.num_parameters == most]
    rest = [point for point in points if point.num_parameters < most]
    return power_law(rest) if rest else None, sorted(held_out, key=lambda point: point.size)
