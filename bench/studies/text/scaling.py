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

    def predicted(self, num_parameters: int, num_steps: int) -> tuple[float, float, float]:
        """Predicted loss of a model, and the ends of its 95 % prediction interval."""
        from scipy import special

        x = np.array([1.0, math.log(num_parameters), math.log(num_steps)])
        centre = float(x @ np.array(self.coefficients))
        t = float(special.stdtrit(self.degrees, 0.975))
        half = t * self.spread * math.sqrt(1 + float(x @ np.array(self.inverse) @ x))
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
