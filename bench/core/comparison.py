"""Differences of two rows over seeds, with their error from seeds and test examples. No torch.

Seeds are few, and the models of all of them answer the same test examples. Student's t over the
seeds says what another seed would change, and the error over examples what another test set would;
the second does not shrink with the number of seeds.

No method can tell from three seeds that there is a mode which none of them shows: where one run in
five fails to learn, half of all studies with three seeds see no failure, and their interval is that
of the runs that learn.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from bench.core.answers import UNSEEN, clustered_error
from bench.core.statistics import CONFIDENCE, Interval

LEVEL = 1 - CONFIDENCE
POWER = 0.8

FEW_SEEDS = 5
"""Up to this number of seeds, intervals are a tenth wider than Student's t and cover every seed.

Student's t assumes a normal spread, which so few seeds cannot show. With three seeds, where a third
of the runs fail, it covers the median 93.0 times in 100; a tenth wider, 93.5. With five seeds, four
in one mode and one in another, it leaves the one out; the range of all five covers the median 94
times in 100, whatever the spread (the sign test). With more seeds the interval is Student's, of the
mean over all runs, failed ones included.
"""

_FEW_WIDER = 1.1

_ROUNDING = 1e-12
"""Spreads and differences below this are rounding errors."""

_MANY_SEEDS = 10_000
"""Number of seeds from which Student's t is the normal distribution to four digits."""


@dataclass(frozen=True, kw_only=True)
class Runs:
    """The training runs of one row on one task.

    Attributes:
        scores: by seed; None for a run that ended without a score.
        error: standard error of a score over the test examples, which all seeds share.
        num_examples: number of answers that a score is a share of.
        right: by seed, which of the test answers were right, in the order of the test set.
        per_cluster: consecutive answers that belong to one test example.
        test_set: equal for runs that were scored on the same examples; empty if that is not known.
    """

    scores: Mapping[int, float | None]
    error: float | None = None
    num_examples: int | None = None
    right: Mapping[int, np.ndarray] = field(default_factory=dict)
    per_cluster: int = 1
    test_set: str = ""

    @property
    def known(self) -> dict[int, float]:
        """Scores of the seeds that have one."""
        return {seed: score for seed, score in self.scores.items() if score is not None}


@dataclass(frozen=True, kw_only=True)
class Difference:
    """How much better one row is than another, over the seeds that either was run with.

    Attributes:
        mean: over the seeds for which both have a score; None if there are none.
        low, high: 95 % interval of the typical difference of a seed. Where the spread has one mode,
            or both rows have the same spread, that is mean and median alike. Where one row splits
            into runs that learned and a minority that did not, it is the median.
        ahead: probability that the first is better.
        p_value: two-sided, of no difference; below 5 % exactly where the interval excludes 0.
        num_seeds: seeds compared, missing ones included.
    """

    mean: float | None
    low: float
    high: float
    ahead: float
    p_value: float
    num_seeds: int

    @property
    def is_ahead(self) -> bool:
        """Whether the whole interval is above 0: the first is better."""
        return self.low > 0

    @property
    def is_behind(self) -> bool:
        """Whether the whole interval is below 0: the second is better."""
        return self.high < 0


def compare(first: Runs, second: Runs, *, less_is_better: bool = False) -> Difference | None:
    """Compare two rows seed by seed, two or more; above zero the first is better.

    Two errors are combined: Student's t over the differences, and the error over test examples,
    clustered by example. The latter is paired, answer by answer, where both rows say which answers
    were right on one test set, so that examples hard for both cancel; else it is that of the two
    scores, or of counted answers. It is not divided by the number of seeds.

    A seed that one of the two lacks could have had any score: from 0 to 1 for a share of right
    answers, any number for a score without bounds. The interval spans the worst and the best case.
    `less_is_better` is for scores that count what should be small, and have no upper bound.
    """
    seeds = sorted(first.scores.keys() | second.scores.keys())
    if len(seeds) < 2:
        return None
    sign, bounds = (-1.0, (-math.inf, math.inf)) if less_is_better else (1.0, (0.0, 1.0))
    one, other = (
        np.array([sign * known.get(seed, math.nan) for seed in seeds])
        for known in (first.known, second.known)
    )
    differences = one - other
    has_both = ~np.isnan(differences)
    error, degrees = _shared_error(first, second, is_share=not less_is_better)
    fills = [differences]  # worst and best case of missing seeds, seen from the first row
    if not has_both.all():
        fills = [
            np.where(np.isnan(one), a, one) - np.where(np.isnan(other), b, other)
            for a, b in (bounds, bounds[::-1])
        ]
    odds = [_odds(fill, error, degrees) for fill in fills]
    least, most = odds[0], odds[-1]
    return Difference(
        mean=float(np.mean(differences[has_both])) if has_both.any() else None,
        low=float(seed_interval(fills[0], error, degrees)[0]),
        high=float(seed_interval(fills[-1], error, degrees)[1]),
        ahead=(least + most) / 2,
        p_value=2 * (1 - least) if least > 0.5 else 2 * most if most < 0.5 else 1.0,
        num_seeds=len(seeds),
    )


def mean_of(runs: Runs, *, is_share: bool = True) -> Interval | None:
    """The 95 % interval of a row's score, computed as in `compare`; None with fewer than two seeds.

    It is not clipped to possible scores; see `within_share`. `is_share` is for shares of right
    answers, whose count alone gives an error.
    """
    scores = np.array([*runs.known.values()])
    if len(scores) < 2:
        return None
    error, degrees = _own_error(runs, is_share=is_share)
    low, high = seed_interval(scores, error, degrees)
    return float(low), float(high)


def within_share(interval: Interval) -> Interval:
    """Clip an interval to the possible values of a share."""
    return max(interval[0], 0.0), min(interval[1], 1.0)


def seed_interval(
    values: np.ndarray, error: float | np.ndarray = 0.0, degrees: float = math.inf
) -> tuple[np.ndarray, np.ndarray]:
    """The 95 % interval of the typical value of a seed: (..., seeds) -> two of (...).

    On either side its width is the root of the sum of squares of two widths of Student's t, over
    the seeds and over the test examples: it is narrower than neither. `FEW_SEEDS` says how few
    seeds widen it. `error` is the standard error over the test examples that all seeds share, with
    `degrees` of freedom: clusters of answers less one.
    """
    num_seeds = values.shape[-1]
    is_known = np.isfinite(values).all(axis=-1)
    values = np.where(np.isfinite(values), values, 0.0)
    mean = values.mean(axis=-1)
    below = above = _t(num_seeds - 1, LEVEL) * _seed_error(values)
    if num_seeds <= FEW_SEEDS:
        below = np.maximum(below, mean - values.min(axis=-1))
        above = np.maximum(above, values.max(axis=-1) - mean)
    shared = _t(degrees, LEVEL) * error
    low = np.where(is_known, mean - np.hypot(below, shared), -math.inf)
    high = np.where(is_known, mean + np.hypot(above, shared), math.inf)
    return low, high


def p_value(values: np.ndarray, error: float = 0.0, degrees: float = math.inf) -> float:
    """Two-sided p-value of a typical value of 0; below 5 % where the interval excludes 0.

    Arguments are those of `seed_interval`, for values of (seeds,). It is the level at which the
    interval would end at 0, or the sign test's p-value where only the range of few seeds covers 0.
    """
    from scipy import special

    values = values if np.mean(values) >= 0 else -values
    mean, seed_error, own = float(np.mean(values)), float(_seed_error(values)), len(values) - 1
    if mean <= _ROUNDING:
        return 1.0
    if max(error, seed_error) <= 0:
        return 0.0
    if error <= 0:
        found = 2 * float(special.stdtr(own, -mean / seed_error))
    elif seed_error <= 0:
        found = 2 * float(special.stdtr(degrees, -mean / error))
    else:
        found = _level_of(mean, seed_error, own, error, degrees)
    if found < LEVEL and seed_interval(values, error, degrees)[0] <= 0:
        return min(1.0, 2 * float(special.bdtr(np.sum(values <= 0), len(values), 0.5)))
    return found


def _level_of(mean: float, seed_error: float, own: float, error: float, degrees: float) -> float:
    """The level at which an interval that is made of two errors ends at 0, by bisection."""
    surely_above, surely_below = -80.0, 0.0  # logarithms: with two seeds the tail of t is long
    for _ in range(32):
        middle = (surely_above + surely_below) / 2
        level = math.exp(middle)
        reach = math.hypot(_t(own, level) * seed_error, _t(degrees, level) * error)
        if reach > mean:
            surely_above = middle
        else:
            surely_below = middle
    return math.exp((surely_above + surely_below) / 2)


def _t(degrees: float, level: float) -> float:
    """Two-sided critical value of Student's t."""
    from scipy import special

    return -float(special.stdtrit(degrees, level / 2))


def _seed_error(values: np.ndarray) -> np.ndarray:
    """Standard error of the mean over seeds, (..., seeds) -> (...), widened for few seeds."""
    num_seeds = values.shape[-1]
    found: np.ndarray = np.std(values, axis=-1, ddof=1) / math.sqrt(num_seeds)
    wider = _FEW_WIDER if num_seeds <= FEW_SEEDS else 1.0
    return np.where(found > _ROUNDING, wider * found, 0.0)


def _odds(differences: np.ndarray, error: float, degrees: float) -> float:
    """Probability that the typical difference is above 0."""
    mean = float(np.mean(differences))
    if not np.isfinite(mean):
        return 1.0 if mean > 0 else 0.0
    half = p_value(differences, error, degrees) / 2
    return 1 - half if mean > 0 else half


# The error over test examples: its size, and its degrees of freedom.


def _shared_error(first: Runs, second: Runs, *, is_share: bool) -> tuple[float, float]:
    if answers := _paired_answers(first, second):
        size = max(first.per_cluster, second.per_cluster)
        return clustered_error(answers[0] - answers[1], size, ends=(-1.0, 1.0))
    return math.hypot(*(_own_error(row, is_share=is_share)[0] for row in (first, second))), math.inf


def _paired_answers(first: Runs, second: Runs) -> tuple[np.ndarray, np.ndarray] | None:
    """Share of seeds that had each answer right, for either row; None if they are not paired."""
    seeds = first.known.keys() & second.known.keys()
    if not first.test_set or first.test_set != second.test_set or not seeds:
        return None
    if not (seeds <= first.right.keys() and seeds <= second.right.keys()):
        return None
    rows = [[row.right[seed] for seed in sorted(seeds)] for row in (first, second)]
    if len({len(answers) for row in rows for answers in row}) != 1:
        return None
    return np.mean(rows[0], axis=0), np.mean(rows[1], axis=0)


def _own_error(runs: Runs, *, is_share: bool) -> tuple[float, float]:
    known = runs.known
    if known and is_share and known.keys() <= runs.right.keys():
        answers = [runs.right[seed] for seed in known]
        if runs.test_set and len({len(own) for own in answers}) == 1:
            return clustered_error(np.mean(answers, axis=0), runs.per_cluster)
    if not is_share or not known or not runs.num_examples:
        return runs.error or 0.0, math.inf
    share = float(np.mean([*known.values()]))
    variance = share * (1 - share) / runs.num_examples if runs.error is None else runs.error**2
    num_clusters = runs.num_examples / runs.per_cluster
    unseen = UNSEEN * (share**2 + (1 - share) ** 2) / num_clusters**2
    return math.sqrt(max(0.0, variance) + unseen), math.inf


def holm(p_values: Sequence[float], level: float = LEVEL) -> tuple[bool, ...]:
    """Tell which of several differences are significant, with a familywise error of `level`.

    Holm, Scandinavian Journal of Statistics 6 (1979), 65: the smallest of n is compared with
    level / n, the next with level / (n - 1), until one fails.
    """
    stands = [False] * len(p_values)
    for place, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        if p_values[index] > level / (len(p_values) - place):
            break
        stands[index] = True
    return tuple(stands)


def signs(found: Sequence[Difference | None], level: float = LEVEL) -> list[int]:
    """For each comparison 1 if the first is better, -1 if the second is, 0 if that is not settled.

    With Holm's correction over all of them; None is a comparison that settles nothing.
    """
    stands = holm([1.0 if each is None else each.p_value for each in found], level)
    return [
        (1 if each.ahead > 0.5 else -1) if each and is_decided else 0
        for each, is_decided in zip(found, stands, strict=True)
    ]


@dataclass(frozen=True, kw_only=True)
class SeedsNeeded:
    """Number of seeds that distinguish a difference from 0.

    Attributes:
        number: if the pilot's spread is the true one.
        low, high: for the ends of the 95 % interval of the spread.
    """

    number: int
    low: int
    high: int

    def __str__(self) -> str:
        """As ``about 444 seeds (122 to 17,439 by the pilot's spread)``."""
        return f"about {self.number:,} seeds ({self.low:,} to {self.high:,} by the pilot's spread)"


def num_seeds_for(
    difference: float, spread: float, *, power: float = POWER, level: float = LEVEL
) -> int | None:
    """Seeds with which Student's t finds a difference with a given power; None if it is 0.

    `spread` is the standard deviation over seeds, `power` how often a study with so many seeds
    finds the difference, and `level` is two-sided.
    """
    from scipy import special

    if difference == 0:
        return None
    size = math.inf if spread <= 0 else abs(difference) / spread
    z = -float(special.ndtri(level / 2)) + float(special.ndtri(power))
    rough = (z / size) * (z / size) if size > 0 else math.inf  # a power would raise an error
    if not math.isfinite(rough):
        return None
    number = max(2, math.ceil(rough))
    while number < _MANY_SEEDS and _power(number, size, level) < power:
        number += 1
    return number


def _power(num_seeds: int, size: float, level: float) -> float:
    """How often Student's t finds a difference of `size` standard deviations."""
    from scipy import special

    edge, shift = _t(num_seeds - 1, level), size * math.sqrt(num_seeds)
    return 1.0 - float(special.nctdtr(num_seeds - 1, shift, edge))


def seeds_by_pilot(difference: float, spread: float, num_pilot: int) -> SeedsNeeded | None:
    """Number of seeds needed by a pilot's spread, and its range, as the pilot has few seeds itself.

    `spread` is the standard deviation over the pilot's `num_pilot` seeds, 2 or more. None if the
    difference is 0.
    """
    spreads = (spread, *spread_interval(spread, num_pilot))
    number, low, high = (num_seeds_for(difference, each) for each in spreads)
    if number is None or low is None or high is None:
        return None
    return SeedsNeeded(number=number, low=low, high=high)


def spread_interval(spread: float, num_seeds: int) -> Interval:
    """The 95 % interval of a standard deviation, by the chi-square distribution.

    Raises:
        ValueError: fewer than two seeds have no spread.
    """
    from scipy import special

    degrees = num_seeds - 1
    if degrees < 1:
        raise ValueError(f"{num_seeds} seeds have no spread; two or more are needed.")
    cuts = (float(special.chdtri(degrees, tail)) for tail in (LEVEL / 2, 1 - LEVEL / 2))
    low, high = (spread * math.sqrt(degrees / cut) for cut in cuts)
    return low, high
