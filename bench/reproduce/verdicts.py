"""What our runs say of a published value: pure functions of numbers. No torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import NormalDist, mean, stdev

from bench.comparison import seeds_by_pilot
from bench.statistics import mean_interval

_Z = NormalDist().inv_cdf(0.975)


class Verdict(StrEnum):
    """How a described cell or claim stands."""

    REPRODUCED = "reproduced"
    DIFFERS = "differs"
    NOT_RESOLVABLE = "not resolvable"
    NOT_COMPARABLE = "not comparable"
    HOLDS = "holds"
    DOES_NOT_HOLD = "does not hold"
    HOLDS_WHERE = "holds where"
    UNFINISHED = "unfinished"
    NOT_RUN = "not run"


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """A verdict and what it rests on.

    Attributes:
        words: its numbers and reasons; without the verdict and without a full stop.
        value: ours; None where there is none.
        low, high: its 95 % interval.
        num_seeds: training runs under different seeds.
    """

    verdict: Verdict
    words: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    num_seeds: int = 0


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What our runs of a cell came to.

    Attributes:
        scores: one a seed: the mean over variants of the best of the grid.
        num_answers: test answers behind each of them.
        by_steps: whether a run ended because its steps were spent, not because it had settled.
    """

    scores: tuple[float, ...]
    num_answers: int
    by_steps: bool = False


def score(
    runs: Mapping[tuple[int, int], float], num_variants: int, num_points: int
) -> float | None:
    """The mean over variants of the best of the grid; None unless all runs are there.

    Args:
        runs: by (variant, point of the grid).
        num_variants: all of them.
        num_points: all of them.
    """
    if len(runs) < num_variants * num_points:
        return None
    best = [
        max(runs[variant, point] for point in range(num_points)) for variant in range(num_variants)
    ]
    return mean(best)


def share_interval(share: float, num_answers: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share of right answers, for another test set of that size."""
    z2 = _Z**2 / num_answers
    middle = (share + z2 / 2) / (1 + z2)
    half = _Z * math.sqrt(share * (1 - share) / num_answers + z2 / (4 * num_answers)) / (1 + z2)
    return max(middle - half, 0.0), min(middle + half, 1.0)


def judge(published: float, tolerance: float, measured: Measured) -> Judgement:
    """Compare a published share of right answers with ours.

    Reproduced: our interval lies within `tolerance` of the published value. Differs: it lies
    outside altogether. Otherwise not resolvable, with the number of seeds that would decide, if
    ours are typical.

    With one seed the interval is that of another test set, and what another seed would give is
    unknown: the words say so.
    """
    value = mean(measured.scores)
    num_seeds = len(measured.scores)
    interval = mean_interval(measured.scores)
    if interval is None:
        low, high = share_interval(value, measured.num_answers)
    else:
        low, high = max(interval[0], 0.0), min(interval[1], 1.0)
    numbers = f"{_percent(value)} ({_percent(low)} to {_percent(high)}, {_seeds(num_seeds)})"
    lowest, highest = published - tolerance, published + tolerance
    if lowest <= low and high <= highest:
        verdict, words = Verdict.REPRODUCED, numbers
    elif high < lowest or low > highest:
        note = "; its steps were spent before it had settled" if measured.by_steps else ""
        verdict = Verdict.DIFFERS
        words = f"by {100 * (value - published):+.1f} points: {numbers}{note}"
    else:
        verdict = Verdict.NOT_RESOLVABLE
        words = f"{numbers}; {seeds_needed(measured.scores, (lowest, highest))}"
    return Judgement(
        verdict=verdict, words=words, value=value, low=low, high=high, num_seeds=num_seeds
    )


def seeds_needed(scores: Sequence[float], edges: Sequence[float]) -> str:
    """How many seeds would tell the mean from the nearest edge four times in five, in words."""
    if len(scores) < 3:
        return "3 seeds or more would tell"
    distance = min(abs(mean(scores) - edge) for edge in edges)
    found = seeds_by_pilot(distance, stdev(scores), len(scores))
    if found is None:
        return "no number of seeds would tell"
    left_open = f"{found.low:,} to {found.high:,} by the pilot's spread"
    return f"about {found.number:,} seeds would tell ({left_open})"


def _seeds(number: int) -> str:
    if number == 1:
        return "one seed, so over test examples only"
    return f"over {number} seeds"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"
