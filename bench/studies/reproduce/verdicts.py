"""Verdicts on a published value from our runs: pure functions of numbers. No torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from statistics import NormalDist, mean, stdev

from bench.core.comparison import Runs, SeedsNeeded, mean_of, seeds_by_pilot, within_share
from bench.core.format import percent, quantity
from bench.core.seed_runs import FEWEST_SEEDS

_Z = NormalDist().inv_cdf(0.975)

CEILING = 0.95
"""Share of right answers. Where all arms reach it, no order of them can hold or fail."""


class PaperVerdict(StrEnum):
    """Verdict on a described cell or claim."""

    REPRODUCED = "reproduced"
    DIFFERS = "differs"
    NOT_RESOLVABLE = "not resolvable"
    NOT_COMPARABLE = "not comparable"
    HOLDS = "holds"
    DOES_NOT_HOLD = "does not hold"
    HOLDS_WHERE = "holds where"
    NOT_DISCRIMINATED = "not discriminated at these sizes"
    ONE_SEED = "one seed"
    UNTUNED = "not resolvable: untuned"
    NO_VERDICT = "no verdict"
    AGREES = "agrees"
    DISAGREES = "disagrees"
    UNFINISHED = "unfinished"
    NOT_RUN = "not run"


DECIDED = (PaperVerdict.HOLDS, PaperVerdict.HOLDS_WHERE, PaperVerdict.DOES_NOT_HOLD)
"""Verdicts that end the looks of a claim. More seeds may end all others, as `not resolvable`."""


@dataclass(frozen=True)
class Judgement:
    """A verdict and what it rests on.

    Attributes:
        words: its numbers and reasons; without the verdict and without a full stop.
        notes: qualify it, such as a criterion that has changed.
        num_seeds: training runs under different seeds.
    """

    verdict: PaperVerdict
    words: str = ""
    notes: tuple[str, ...] = ()
    num_seeds: int = 0

    def __str__(self) -> str:
        """As ``reproduced: 99.6 (98.9 to 99.9, over 3 seeds), -0.4 points off``."""
        separator = " " if self.verdict in (PaperVerdict.DIFFERS, PaperVerdict.DISAGREES) else ": "
        words = f"{self.verdict}{separator}{self.words}" if self.words else str(self.verdict)
        return "; ".join((words, *self.notes))


def share_interval(share: float, num_answers: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share of right answers, for another test set of that size."""
    z2 = _Z**2 / num_answers
    middle = (share + z2 / 2) / (1 + z2)
    half = _Z * math.sqrt(share * (1 - share) / num_answers + z2 / (4 * num_answers)) / (1 + z2)
    return max(middle - half, 0.0), min(middle + half, 1.0)


def judge(published: float, tolerance: float, runs: Runs, *, has_settled: bool = True) -> Judgement:
    """Compare a published share of right answers with ours.

    Reproduced: our interval lies within `tolerance` of the published value. Differs: it lies
    outside altogether. Otherwise not resolvable, with the number of seeds that would decide, if
    ours are typical. Fewer than `FEWEST_SEEDS` seeds get none of these verdicts: the words give the
    numbers, and how many seeds are missing.

    With one seed the interval covers other test sets but no other seeds; the words say so.

    Args:
        published: the value, a share.
        tolerance: how far off still counts as the same.
        runs: scores by seed, each the mean over variants, with their error or number of answers.
        has_settled: false if a run ended because its steps were spent.
    """
    scores = list(runs.known.values())
    value, num_seeds = mean(scores), len(scores)
    interval = mean_of(runs)
    if interval is None and runs.error is not None:
        interval = value - _Z * runs.error, value + _Z * runs.error
    low, high = within_share(interval or share_interval(value, runs.num_examples or 1))
    over = f"over {num_seeds} seeds" if num_seeds > 1 else "one seed, so over test examples only"
    numbers = f"{percent(value)} ({percent(low)} to {percent(high)}, {over})"
    lowest, highest = published - tolerance, published + tolerance
    away = [100 * (number - published) for number in (value, low, high)]
    difference = f"{away[0]:+.1f} points ({away[1]:+.1f} to {away[2]:+.1f})"
    note = "" if has_settled else "; its steps were spent before it had settled"
    if num_seeds < FEWEST_SEEDS:
        verdict = PaperVerdict.ONE_SEED
        words = f"{numbers}, {difference} off{note}; {seeds_missing(num_seeds)}"
    elif lowest <= low and high <= highest:
        verdict, words = PaperVerdict.REPRODUCED, f"{numbers}, {difference} off"
    elif high < lowest or low > highest:
        verdict, words = PaperVerdict.DIFFERS, f"by {difference}: {numbers}{note}"
    else:
        verdict = PaperVerdict.NOT_RESOLVABLE
        words = f"{numbers}, {difference} off; {seeds_needed(runs, (lowest, highest))}"
    return Judgement(verdict, words, num_seeds=num_seeds)


def at_ceiling(scores: Sequence[float]) -> str:
    """As ``all 5 arms score 97.9 to 99.9 %``; empty unless all reach `CEILING`.

    Args:
        scores: share of right answers of each arm, a mean over its seeds.
    """
    if not scores or min(scores) < CEILING:
        return ""
    return f"all {len(scores)} arms score {percent(min(scores))} to {percent(max(scores))} %"


def seeds_missing(num_seeds: int) -> str:
    """As ``2 more seeds are missing for a verdict: seed=[0,1,2]``."""
    missing = FEWEST_SEEDS - num_seeds
    wanted = ",".join(map(str, range(FEWEST_SEEDS)))
    verb = "is" if missing == 1 else "are"
    return f"{quantity(missing, 'more seed')} {verb} missing for a verdict: seed=[{wanted}]"


def seeds_needed(runs: Runs, edges: Sequence[float]) -> str:
    """Number of seeds that tell the mean from the nearest edge with 80 % power, in words.

    Args:
        runs: of three seeds or more.
        edges: of the tolerance.
    """
    scores = list(runs.known.values())
    distance = min(abs(mean(scores) - edge) for edge in edges)
    interval = mean_of(without_spread(runs))
    over_examples = (interval[1] - interval[0]) / 2 if interval else 0.0
    found = seeds_beside(over_examples, distance, stdev(scores), len(scores))
    if found is None:
        return "no number of seeds would tell"
    left_open = f"{found.low:,} to {found.high:,} by the pilot's spread"
    return f"about {found.number:,} seeds would tell ({left_open})"


def without_spread(runs: Runs) -> Runs:
    """The same runs with equal scores, so that their interval is that over test examples alone."""
    known = runs.known
    return replace(runs, scores=dict.fromkeys(known, mean(known.values())))


def seeds_beside(
    over_examples: float, difference: float, spread: float, num_pilot: int
) -> SeedsNeeded | None:
    """Seeds that tell a difference from 0 beside an error that more seeds do not lower.

    The two widths of an interval add up as squares, see `bench.core.comparison.seed_interval`.

    Args:
        over_examples: half of the 95 % interval over test examples alone.
        difference: to be told from 0, in the unit of the other two.
        spread: standard deviation over the pilot's seeds.
        num_pilot: number of these.

    Returns:
        None if no number of seeds tells it.
    """
    left = difference**2 - over_examples**2
    return seeds_by_pilot(math.sqrt(left), spread, num_pilot) if left > 0 else None
