"""How time grows with sequence length: a fitted polynomial, and the exponent of a power law.

Between the measured lengths a fit describes; beyond them it predicts. A predicted time is not a
measurement: it is labelled as predicted wherever it is shown, and takes part in no ranking.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from bench.core.record import Record, Speed
from bench.core.statistics import MIN_ROUNDS, Interval, percentiles, resampled_medians
from bench.publishing.metrics.marks import may_be_ranked

MIN_LENGTHS = 3
"""Smallest number of lengths for a fit: two points would fit a power law exactly."""

NUM_REFITS = 200
"""Number of resamples that are fitted; more would change an interval less than its misfit does."""


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """Seconds of a call as a function of the sequence length N.

    Attributes:
        constant_s, linear_s, quadratic_s: a, b and c of t = a + b N + c N^2, none negative.
        exponent: p of the power law t ~ N^p that is nearest to the measured times, so an average
            over `lengths`: it rises towards 1 or 2 as fixed costs lose weight.
        exponent_interval: 95 % interval by a bootstrap over rounds; None with too few rounds.
        lengths: measured lengths, ascending; outside of their range the fit is a prediction.
        misfit: largest error of the polynomial at one of them, relative to the time.
    """

    constant_s: float
    linear_s: float
    quadratic_s: float
    exponent: float
    exponent_interval: Interval | None
    lengths: tuple[int, ...]
    misfit: float

    def seconds(self, length: float) -> float:
        """Time in seconds by the polynomial; a prediction outside of the measured range."""
        return self.constant_s + self.linear_s * length + self.quadratic_s * length**2

    def constant_share(self, length: float) -> float:
        """Share of the time at a length that does not grow with it."""
        return self.constant_s / self.seconds(length)


def scaling(by_length: Mapping[int, Record]) -> Scaling | None:
    """The growth of an entry's time; None with fewer than `MIN_LENGTHS` lengths.

    Records differ in nothing but their length; those without a time, or with a mark that forbids a
    rank, are ignored.
    """
    samples = _samples(by_length)
    if len(samples) < MIN_LENGTHS:
        return None
    lengths, times = _medians(samples)
    coefficients = _fit(lengths, times)
    fitted = np.polynomial.polynomial.polyval(lengths, coefficients)
    return Scaling(
        constant_s=float(coefficients[0]),
        linear_s=float(coefficients[1]),
        quadratic_s=float(coefficients[2]),
        exponent=float(_slopes(lengths, times[:, None])[0]),
        exponent_interval=_exponent_interval(lengths, [*samples.values()]),
        lengths=tuple(samples),
        misfit=float(np.max(np.abs(fitted / times - 1))),
    )


def seconds_at(by_length: Mapping[int, Record], length: int) -> tuple[float, Interval] | None:
    """Seconds of a call at a length within the measured range, by the fit, with a 95 % interval.

    The interval is that of a bootstrap over rounds, widened by the fit's largest error at a
    measured length: a polynomial that misses measured times is no better between them. None outside
    of the range, and with too few lengths or rounds.
    """
    samples, fit = _samples(by_length), scaling(by_length)
    if fit is None or not fit.lengths[0] <= length <= fit.lengths[-1]:
        return None
    if min(map(len, samples.values())) < MIN_ROUNDS:
        return None
    lengths, _ = _medians(samples)
    drawn = [resampled_medians(own, i)[:NUM_REFITS] for i, own in enumerate(samples.values())]
    fits = [_fit(lengths, times) for times in np.stack(drawn, axis=1)]
    low, high = percentiles(np.polynomial.polynomial.polyval(length, np.stack(fits, axis=1)))
    return fit.seconds(length), (low * (1 - fit.misfit), high * (1 + fit.misfit))


def _samples(by_length: Mapping[int, Record]) -> dict[int, np.ndarray]:
    """Samples in seconds, sorted, by ascending length."""
    return {
        length: np.sort(record.result.latency_s)
        for length, record in sorted(by_length.items())
        if isinstance(record.result, Speed) and may_be_ranked(record) and record.result.latency_s
    }


def _medians(samples: Mapping[int, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    times = [(own[(len(own) - 1) // 2] + own[len(own) // 2]) / 2 for own in samples.values()]
    return np.array([*samples], dtype=float), np.array(times)


def _fit(lengths: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Coefficients a, b, c of a + b N + c N^2: least squares of relative errors, none negative.

    With three coefficients every choice of non-zero ones can be tried: the best fit without a
    negative coefficient is the solution.
    """
    powers = np.stack([np.ones_like(lengths), lengths, lengths**2])
    scale = powers.max(axis=1)
    rows = (powers / scale[:, None] / times).T  # relative: each time should come out as 1
    best, least = np.zeros(3), np.inf
    for size in (1, 2, 3):
        for chosen in combinations(range(3), size):
            found, *_ = np.linalg.lstsq(rows[:, chosen], np.ones(len(times)))
            error = float(np.sum((rows[:, chosen] @ found - 1) ** 2))
            # A further term must reduce the error, or rounding would decide between equal fits.
            if np.all(found >= 0) and error < least - 1e-12:
                best, least = np.zeros(3), error
                best[list(chosen)] = found
    coefficients: np.ndarray = best / scale
    return coefficients


def _slopes(lengths: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Slopes of log t over log N by least squares; one per column of `times`."""
    x = np.log(lengths) - np.log(lengths).mean()
    slopes: np.ndarray = x @ np.log(times) / (x @ x)
    return slopes


def _exponent_interval(lengths: np.ndarray, samples: list[np.ndarray]) -> Interval | None:
    if min(map(len, samples)) < MIN_ROUNDS:
        return None
    resampled = np.stack([resampled_medians(own, stream) for stream, own in enumerate(samples)])
    return percentiles(_slopes(lengths, resampled))
