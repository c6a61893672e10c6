"""From paired ratios to a verdict, with the false alarms of a whole comparison under control.

A ratio is current time / base time, so above 1 is slower. Both sides are timed in one process,
because two processes running the same code can differ by 10 to 20 % for as long as they live; the
rounds are spread over several fresh forks, because what is left of that difference is shared by
all rounds of one fork. The bootstrap therefore draws forks first, then rounds within them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

import numpy as np

BOOTSTRAP_SEED = 20_190_226
FAMILY_ERROR = 0.01
"""Chance that a comparison in which nothing changed holds a false SLOWER, over all its cells."""

_MIN_RESAMPLES = 4000
_BEYOND = 20
"""Resamples expected beyond each end of an interval, so that no end rests on one draw."""

_MAX_RESAMPLES = 100_000


class GateVerdict(StrEnum):
    """Verdict of a comparison on one number of one cell."""

    FASTER = "FASTER"
    SAME = "SAME"
    SLOWER = "SLOWER"
    UNSURE = "UNSURE"
    """The interval contains the threshold, and the budget is spent: listed, no failure."""

    LESS = "LESS"
    MORE = "MORE"
    """A number without noise grew: a failure, unless it was accepted."""

    BROKEN = "BROKEN"
    """The base could run it, and this tree cannot."""

    ACCEPTED = "ACCEPTED"
    NEW = "new"
    GONE = "gone"
    """Stored with numbers on the base's side only: listed, no failure."""

    INCOMPARABLE = "incomparable"


FAILURES = (GateVerdict.SLOWER, GateVerdict.MORE, GateVerdict.BROKEN)


class Interval(NamedTuple):
    """A ratio and its confidence interval."""

    median: float
    low: float
    high: float


def confidence_tail(num_cells: int, family_error: float = FAMILY_ERROR) -> float:
    """The tail left out on each side of a cell's interval: Bonferroni over the cells."""
    return family_error / num_cells


def ratio_interval(forks: Sequence[Sequence[float]], tail: float) -> Interval:
    """The median ratio over all rounds, with an interval that leaves `tail` on each side.

    Args:
        forks: per fork the ratios of its rounds, each above zero.
        tail: share of resamples beyond each end.

    Returns:
        A percentile interval of a two-stage bootstrap (forks, then rounds within a fork; Davison
        and Hinkley, 1997, §3.8). With few forks its ends cannot pass those of the most extreme
        fork: one fork that is different decides nothing, all of them must agree.
    """
    rounds = min(len(fork) for fork in forks)
    table = np.array([fork[:rounds] for fork in forks])  # (forks, rounds)
    num_resamples = min(max(_MIN_RESAMPLES, math.ceil(_BEYOND / tail)), _MAX_RESAMPLES)
    draw = np.random.default_rng(BOOTSTRAP_SEED)
    num_forks = len(table)
    medians = []
    for _ in range(0, num_resamples, 2000):  # in parts, to stay small in memory
        which = draw.integers(0, num_forks, size=(2000, num_forks, 1))
        when = draw.integers(0, rounds, size=(2000, num_forks, rounds))
        medians.append(np.median(table[which, when].reshape(2000, -1), axis=1))
    low, high = np.quantile(np.concatenate(medians)[:num_resamples], [tail, 1 - tail])
    return Interval(median=float(np.median(table)), low=float(low), high=float(high))


def judge(interval: Interval, threshold: float) -> GateVerdict:
    """SLOWER only if the whole interval lies beyond the threshold; SAME only if none of it does."""
    if interval.low > 1 + threshold:
        return GateVerdict.SLOWER
    if interval.high < 1 / (1 + threshold):
        return GateVerdict.FASTER
    if interval.high <= 1 + threshold and interval.low >= 1 / (1 + threshold):
        return GateVerdict.SAME
    return GateVerdict.UNSURE


def judge_exact(base: float, current: float, *, higher_is_worse: bool) -> GateVerdict:
    """Judge a number without noise: any change in the bad direction is MORE, in the other LESS."""
    if base == current:
        return GateVerdict.SAME
    return GateVerdict.MORE if (current > base) == higher_is_worse else GateVerdict.LESS
