"""Verdicts on a published value from our runs: pure functions of numbers. No torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import NormalDist, mean, stdev

from bench.core.comparison import Runs, mean_of, seeds_by_pilot, within_share

_Z = NormalDist().inv_cdf(0.975)


class PaperVerdict(StrEnum):
    """Verdict on a described cell or claim."""

    REPRODUCED = "reproduced"
    DIFFERS = "differs"
    NOT_RESOLVABLE = "not resolvable"
    NOT_COMPARABLE = "not comparable"
    HOLDS = "holds"
    DOES_NOT_HOLD = "does not hold"
    HOLDS_WHERE = "holds where"
    ONE_SEED = "one seed"
    UNTUNED = "not resolvable: untuned"
    NO_VERDICT = "no verdict"
    AGREES = "agrees"
    DISAGREES = "disagrees"
    UNFINISHED = "unfinished"
    NOT_RUN = "not run"


FEWEST_SEEDS = 3
"""Fewest training seeds for a verdict: two say nothing about the spread."""


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """A verdict and what it rests on; `notes` qualify it, such as a criterion that has changed.

    Attributes:
        words: its numbers and reasons; without the verdict and without a full stop.
        value: our value; None if there is none.
        low, high: its 95 % interval.
        num_seeds: training runs under different seeds.
    """

    verdict: PaperVerdict
    words: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    num_seeds: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Result of our runs of a cell.

    Attributes:
        scores: one per seed: the mean over variants at the chosen points of the grid.
        num_answers: test answers behind each score.
        error: standard error of a score over the test examples; None where runs did not keep it.
        by_steps: whether a run ended because its steps were spent, not because it had settled.
    """

    scores: tuple[float, ...]
    num_answers: int
    error: float | None = None
    by_steps: bool = False


def chosen_points(
    runs: Mapping[tuple[int, int], float], num_variants: int, num_points: int
) -> tuple[int, ...] | None:
    """The best point of the grid for each variant; None unless all runs are there.

    Args:
        runs: scores of one seed, by (variant, point of the grid).
        num_variants: number of variants of the protocol.
        num_points: number of points of its grid.
    """
    if any((v, p) not in runs for v in range(num_variants) for p in range(num_points)):
        return None
    return tuple(
        max(range(num_points), key=lambda point: runs[variant, point])
        for variant in range(num_variants)
    )


def score_at(runs: Mapping[tuple[int, int], float], points: Sequence[int]) -> float | None:
    """The mean over variants, each at its chosen point; None unless all these runs are there.

    The first seed chooses the points by its test scores, as papers do. So its own score is the best
    of a grid, which favours it; those of the other seeds are not.
    """
    if any((variant, point) not in runs for variant, point in enumerate(points)):
        return None
    return mean(runs[variant, point] for variant, point in enumerate(points))


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
    ours are typical. Fewer than `FEWEST_SEEDS` seeds get none of these verdicts: the words give the
    numbers, and how many seeds are missing.

    With one seed the interval covers other test sets but no other seeds; the words say so.
    """
    value = mean(measured.scores)
    num_seeds = len(measured.scores)
    runs = Runs(
        scores=dict(enumerate(measured.scores)),
        error=measured.error,
        num_examples=measured.num_answers,
    )
    interval = mean_of(runs)
    if interval is not None:
        low, high = within_share(interval)
    elif measured.error is not None:
        low, high = within_share((value - _Z * measured.error, value + _Z * measured.error))
    else:
        low, high = share_interval(value, measured.num_answers)
    numbers = f"{_percent(value)} ({_percent(low)} to {_percent(high)}, {_seeds(num_seeds)})"
    lowest, highest = published - tolerance, published + tolerance
    away = [100 * (number - published) for number in (value, low, high)]
    difference = f"{away[0]:+.1f} points ({away[1]:+.1f} to {away[2]:+.1f})"
    note = "; its steps were spent before it had settled" if measured.by_steps else ""
    if num_seeds < FEWEST_SEEDS:
        verdict = PaperVerdict.ONE_SEED
        words = f"{numbers}, {difference} off{note}; {seeds_missing(num_seeds)}"
    elif lowest <= low and high <= highest:
        verdict, words = PaperVerdict.REPRODUCED, f"{numbers}, {difference} off"
    elif high < lowest or low > highest:
        verdict, words = PaperVerdict.DIFFERS, f"by {difference}: {numbers}{note}"
    else:
        verdict = PaperVerdict.NOT_RESOLVABLE
        words = f"{numbers}, {difference} off; {seeds_needed(measured.scores, (lowest, highest))}"
    return Judgement(
        verdict=verdict, words=words, value=value, low=low, high=high, num_seeds=num_seeds
    )


def seeds_missing(num_seeds: int) -> str:
    """As ``2 more seeds are missing for a verdict: seed=[0,1,2]``."""
    missing = FEWEST_SEEDS - num_seeds
    wanted = ",".join(map(str, range(FEWEST_SEEDS)))
    more = "1 more seed is" if missing == 1 else f"{missing} more seeds are"
    return f"{more} missing for a verdict: seed=[{wanted}]"


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One side of a comparison of trained models.

    Attributes:
        name: of the arm.
        is_tuned: at the rate that its own search found for this task and number of steps.
        stuck: by seed, whether training ended at chance or at a partial solution.
        scores: by seed.
        is_control: such as uniform weights, which are meant to stay at chance.
        not_learned: sentence for an arm that was stuck in all seeds, at all rates and also with
            more steps; else empty.
    """

    name: str
    is_tuned: bool
    stuck: tuple[bool, ...]
    scores: tuple[float, ...]
    is_control: bool = False
    not_learned: str = ""


def why_no_verdict(arms: Sequence[Arm]) -> tuple[PaperVerdict, str] | None:
    """Reason given in place of a verdict; None if the comparison may have one.

    A sentence is no stronger than its weakest arm: each needs enough seeds, its own searched rate,
    and to have learned. Being stuck refutes nothing: more steps, or another rate, may help. Where
    these were tried too, the words say that the task was not learned.
    """
    fewest = min(len(arm.scores) for arm in arms)
    if fewest < FEWEST_SEEDS:
        return PaperVerdict.ONE_SEED, seeds_missing(fewest).partition(":")[0]
    stuck = [arm for arm in arms if any(arm.stuck) and not arm.is_control]
    if stuck:
        words = "; ".join(
            f"{arm.name}: {arm.not_learned}"
            if arm.not_learned
            else f"{arm.name} is stuck in {sum(arm.stuck)} of {len(arm.stuck)} seeds"
            for arm in stuck
        )
        return PaperVerdict.NO_VERDICT, words
    untuned = [arm.name for arm in arms if not arm.is_tuned]
    if untuned:
        rate = "rates that are" if len(untuned) > 1 else "a rate that is"
        own = "their own" if len(untuned) > 1 else "its own"
        words = f"{', '.join(untuned)} at {rate} not {own} search's for this task and its steps"
        return PaperVerdict.UNTUNED, words
    return None


def seeds_needed(scores: Sequence[float], edges: Sequence[float]) -> str:
    """Number of seeds that tell the mean from the nearest edge with 80 % power, in words."""
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
