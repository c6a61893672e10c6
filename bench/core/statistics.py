"""Medians, quantiles and ratios of samples. Numbers in, numbers out; no latency has a mean here.

A latency has a long right tail, caused by other work of the machine, and a mean follows that tail;
numbers over seeds have none, and `mean_interval` is for them. Whatever slows the machine slows all
members of a round alike, so comparisons are made within a round and summarised over rounds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import numpy as np

MIN_ROUNDS = 6
"""Fewest rounds for an interval of 95 %.

The true median lies outside the range of n samples with probability 2 / 2**n, so with five not
even their whole range reaches 95 % (93.75 %); with six it does (96.9 %).
"""

MIN_BEYOND = 5
"""Fewest samples expected beyond a quantile, so that it does not rest on a single outlier."""

CONFIDENCE = 0.95
NUM_RESAMPLES = 2000
BOOTSTRAP_SEED = 20_170_612
"""Fixed: the same records give the same table, everywhere."""


Value = float | int | None
"""A number, or None where it does not apply."""

Interval = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """How many times faster a member is than the reference; above 1 is faster.

    Attributes:
        median: over rounds; with several processes, the median of the medians of each process.
        low, high: its 95 % bootstrap interval; None with fewer than `MIN_ROUNDS` rounds, or with
            several processes and fewer than `MIN_ROUNDS` of them.
        num_rounds: rounds in which both were timed.
    """

    median: float
    low: float | None
    high: float | None
    num_rounds: int

    @property
    def half_width(self) -> float:
        """Half of the interval, relative to the ratio; infinite without one."""
        if self.low is None or self.high is None:
            return float("inf")
        return (self.high - self.low) / 2 / self.median


def median(samples: Sequence[float]) -> float | None:
    """The middle sample, or half-way between the two middle ones; None without samples."""
    if not len(samples):
        return None
    # For so few numbers, Python's sort is ten times as fast as np.median.
    return _middle(sorted(samples))


def _middle(ascending: Sequence[float] | np.ndarray) -> float:
    count = len(ascending)
    return float((ascending[(count - 1) // 2] + ascending[count // 2]) / 2)


def quantile(samples: Sequence[float], q: float) -> float | None:
    """The q-th quantile, linearly interpolated; None unless the sample count supports it.

    It does if `MIN_BEYOND` samples are expected on the thinner side: 100 samples for q = 0.05 or
    0.95, 20 for the quartiles, 10 for the median.

    Raises:
        ValueError: q is not strictly between 0 and 1.
    """
    if not 0 < q < 1:
        raise ValueError(f"q is {q!r}; a number between 0 and 1 is needed, the ends excluded.")
    # The small allowance keeps 100 samples enough for 0.95, whose complement is not exact.
    if len(samples) * min(q, 1 - q) < MIN_BEYOND - 1e-9:
        return None
    return float(np.quantile(samples, q))


def median_interval(samples: Sequence[float]) -> Interval | None:
    """The 95 % interval of the median; None with too few samples.

    It includes the variation between rounds, so two members whose intervals overlap may still
    differ in their ratio within rounds.

    The bootstrap's percentiles are widened to the sign test's order statistics: the bootstrap of a
    median is too narrow for few values. With seven it holds the true median 87 times of 100; the
    sign test's interval holds it 95 times or more, whatever the distribution.
    """
    num_values = len(samples)
    if num_values < MIN_ROUNDS:
        return None
    ascending = np.sort(samples)
    # The percentiles of `resampled_medians`, of which only a few dozen differ.
    lower, upper, counts = _distinct_picks(num_values)
    medians = (ascending[lower] + ascending[upper]) / 2
    order = np.argsort(medians)
    ordered = np.repeat(medians[order], counts[order])
    low, high = (_interpolated(ordered, place) for place in _places(NUM_RESAMPLES))
    cut = num_cut(num_values)
    return float(min(low, ascending[cut])), float(max(high, ascending[-1 - cut]))


def paired_ratio(
    samples: Sequence[float],
    rounds: Sequence[int],
    reference_samples: Sequence[float],
    reference_rounds: Sequence[int],
    processes: Sequence[int] = (),
) -> Ratio | None:
    """Median over rounds of reference / member within a round, with a bootstrap over rounds.

    Whatever slows a whole round cancels. Rounds in which either is missing are skipped; several
    samples in a round are reduced to their median.

    With rounds of several processes, the median is taken within each process first, and the
    bootstrap is over processes: rounds of one process share what was fixed when it started. None if
    no round has both.

    Args:
        samples: the member's times in seconds, all above zero.
        rounds: the round of each of them, numbered across processes.
        processes: the process of each of them; empty for one process.
        reference_samples: the reference's times.
        reference_rounds: the round of each of them.

    Raises:
        ValueError: samples and rounds differ in number, or a time is not above zero.
    """
    ratios = independent_ratios(samples, rounds, reference_samples, reference_rounds, processes)
    if not ratios:
        return None
    values = sorted(ratios.values())
    low, high = median_interval(values) or (None, None)
    num_rounds = len({*rounds} & {*reference_rounds})
    return Ratio(median=_middle(values), low=low, high=high, num_rounds=num_rounds)


def independent_ratios(
    samples: Sequence[float],
    rounds: Sequence[int],
    reference_samples: Sequence[float],
    reference_rounds: Sequence[int],
    processes: Sequence[int] = (),
) -> dict[int, float]:
    """The ratios that `paired_ratio` summarises, by the number of the round or of the process.

    Arguments and errors are those of `paired_ratio`. In ascending order of the numbers.
    """
    member = _median_by_round(samples, rounds)
    reference = _median_by_round(reference_samples, reference_rounds)
    # Sorted, so that the order in which rounds were written down cannot move the interval.
    ratios = {r: reference[r] / member[r] for r in sorted(member.keys() & reference.keys())}
    return _by_process(ratios, dict(zip(rounds, processes, strict=False)))


def _by_process(ratios: dict[int, float], process_of: dict[int, int]) -> dict[int, float]:
    """The ratios of all rounds, or, with several processes, the median of each process."""
    groups: dict[int, list[float]] = defaultdict(list)
    for number, ratio in ratios.items():
        groups[process_of.get(number, 0)].append(ratio)
    if len(groups) <= 1:
        return ratios
    return {number: float(np.median(groups[number])) for number in sorted(groups)}


def _median_by_round(samples: Sequence[float], rounds: Sequence[int]) -> dict[int, float]:
    if len(samples) != len(rounds):
        raise ValueError(
            f"There are {len(samples)} samples and {len(rounds)} rounds; each sample has one."
        )
    for seconds in samples:
        if not seconds > 0:
            raise ValueError(f"A sample is {seconds!r} s; a time above zero is needed.")
    first = dict(zip(rounds, samples, strict=True))
    if len(first) == len(samples):
        return first
    by_round: dict[int, list[float]] = defaultdict(list)
    for seconds, number in zip(samples, rounds, strict=True):
        by_round[number].append(seconds)
    return {number: float(np.median(values)) for number, values in by_round.items()}


def resampled_medians(ascending: np.ndarray, stream: int = 0) -> np.ndarray:
    """Medians of `NUM_RESAMPLES` bootstrap resamples.

    Args:
        ascending: the values, sorted.
        stream: of random numbers; take another one for each independent set of values. Equal
            streams draw the same places from sets of equal size.
    """
    lower, upper = _middle_picks(len(ascending))
    medians: np.ndarray = (ascending[lower] + ascending[upper]) / 2
    return medians[_shuffled(stream)] if stream else medians


def percentiles(resampled: np.ndarray) -> Interval:
    """Bounds that hold `CONFIDENCE` of the resamples, with equal shares below and above."""
    places = _places(len(resampled))
    # Equal to np.quantile to the bit, which takes five times as long for so few numbers.
    kept = [
        int(place) + step for place in places for step in (0, 1) if place + step < len(resampled)
    ]
    ordered = np.partition(resampled, kept)
    return _interpolated(ordered, places[0]), _interpolated(ordered, places[1])


def _places(num_resamples: int) -> Interval:
    """Indices of the percentiles among ascending resamples."""
    tail = (1 - CONFIDENCE) / 2
    return tail * (num_resamples - 1), (1 - tail) * (num_resamples - 1)


def _interpolated(ordered: np.ndarray, place: float) -> float:
    below = int(place)
    share = place - below
    one, other = ordered[below], ordered[min(below + 1, len(ordered) - 1)]
    gap = other - one
    return float(one + gap * share if share < 0.5 else other - gap * (1 - share))


@lru_cache(maxsize=64)
def _shuffled(stream: int) -> np.ndarray:
    return np.random.default_rng((BOOTSTRAP_SEED, stream)).permutation(NUM_RESAMPLES)


@lru_cache(maxsize=256)
def _middle_picks(num_values: int) -> tuple[np.ndarray, np.ndarray]:
    """Places, among ascending values, of the two middle ones of each resample.

    Cached, as they depend on the number of values alone, which thousands of records share.
    """
    draw = np.random.default_rng(BOOTSTRAP_SEED)
    picks = draw.integers(0, num_values, size=(NUM_RESAMPLES, num_values))
    picks.sort(axis=1)
    return picks[:, (num_values - 1) // 2].copy(), picks[:, num_values // 2].copy()


@lru_cache(maxsize=256)
def _distinct_picks(num_values: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distinct pairs of `_middle_picks`, and the number of resamples that have each."""
    pairs, counts = np.unique(np.stack(_middle_picks(num_values)), axis=1, return_counts=True)
    return pairs[0], pairs[1], counts


@lru_cache(maxsize=1024)
def num_cut(num_values: int) -> int:
    """Number of values to cut at either end, so that the range of the rest is a 95 % interval.

    It covers the true median with `CONFIDENCE` or more, whatever the distribution (the sign test):
    the number of values below the median is binomial with p = 1/2.
    """
    # In integers: 2**n overflows a float from 1,024 values on. Not by scipy: workers call this
    # between rounds, where a first import would disturb what is timed.
    allowed = int(Fraction((1 - CONFIDENCE) / 2) * 2**num_values)
    cut, below, outcomes = 0, 1, 1  # `outcomes` of 2**n have exactly `cut` values below the median
    while True:
        outcomes = outcomes * (num_values - cut) // (cut + 1)
        if below + outcomes > allowed:
            return cut
        cut += 1
        below += outcomes


def mean_interval(samples: Sequence[float]) -> Interval | None:
    """The 95 % interval of a mean by Student's t; None with fewer than two samples.

    Samples must be independent. Scores of trained models share their test examples, and the runs of
    a mechanism may have two modes: take `bench.core.comparison` for these.
    """
    if len(samples) < 2:
        return None
    from scipy import special

    error = float(np.std(samples, ddof=1)) / len(samples) ** 0.5
    half = float(special.stdtrit(len(samples) - 1, (1 + CONFIDENCE) / 2)) * error
    mean = float(np.mean(samples))
    return mean - half, mean + half
