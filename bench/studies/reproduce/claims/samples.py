"""Build rows as cores, and make rows of findings with intervals over seeds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import TypeVar

from attentions import Attention
from bench.core.comparison import Difference, mean_of, within_share
from bench.core.seed_runs import (
    FEWEST_SEEDS,
    SEEDS_WHERE_SOME_FAIL,
    needs_more_seeds,
    runs_from,
)
from bench.core.statistics import mean_interval
from bench.studies.diagnostics.samples import Size, build_core
from bench.studies.rates.tuned import Arm
from bench.studies.reproduce.findings import FindingRow
from bench.studies.reproduce.runs import ends_of, entry_of, steps_of
from bench.studies.reproduce.verdicts import PaperVerdict, at_ceiling, seeds_missing

K = TypeVar("K")


def core_of(entry: str, size: Size, seed: int = 0, **settings: object) -> Attention:
    """A row in float64, for evaluation, its weights drawn under a seed.

    Raises:
        NoWeights: it owns its projections, or has no form in which queries see all keys.
    """
    chosen = entry_of("attention", entry) | settings
    return build_core(entry, chosen.pop("mechanism"), chosen, size, seed)


def row_over(name: str, samples: Iterable[float]) -> FindingRow:
    """A mean with its interval over seeds.

    Args:
        name: what was measured.
        samples: one per seed; `trained_row` is for scores, which share their test examples.

    Raises:
        ValueError: fewer than two samples.
    """
    values = [*samples]
    if (interval := mean_interval(values)) is None:
        raise ValueError(f"{len(values)} samples have no interval; two or more are needed.")
    low, high = interval
    return FindingRow(name=name, value=fmean(values), low=low, high=high)


def by_name(found: Iterable[Mapping[K, float]]) -> dict[K, list[float]]:
    """Numbers of each name, in the order of the seeds.

    Args:
        found: numbers by name, of one seed each.
    """
    numbers: dict[K, list[float]] = {}
    for own in found:
        for name, number in own.items():
            numbers.setdefault(name, []).append(number)
    return numbers


def gaps(first: Sequence[float], second: Sequence[float]) -> list[float]:
    """Second less first, seed by seed."""
    return [b - a for a, b in zip(first, second, strict=True)]


def falls(first: Sequence[float], second: Sequence[float], by: float = 0.0) -> bool:
    """Whether the second is less by more than `by`: the 95 % interval of the difference says so."""
    high = row_over("", gaps(first, second)).high
    return high is not None and high < -by


def holds_where(holds: Sequence[object], fails: Sequence[object]) -> PaperVerdict:
    """The verdict from the cases in which a sentence holds, and those in which it does not."""
    if not holds:
        return PaperVerdict.DOES_NOT_HOLD
    return PaperVerdict.HOLDS_WHERE if fails else PaperVerdict.HOLDS


def difference_row(name: str, found: Difference, scale: float = 1.0) -> FindingRow:
    """A difference of two arms with its interval, in units of 1 / `scale`."""
    mean, low, high = (scale * x for x in (found.mean or 0.0, found.low, found.high))
    return FindingRow(name=name, value=mean, low=low, high=high)


def in_points(found: Difference) -> str:
    """As ``+0.3 points (-0.1 to +0.7)``, of a difference of shares of right answers."""
    row = difference_row("", found, 100)
    return f"{row.value:+.1f} points ({row.low:+.1f} to {row.high:+.1f})"


def trained_row(name: str, arm: Arm, scale: float = 1.0) -> FindingRow:
    """The scores of an arm, with an interval over seeds and test examples, and its training.

    Args:
        name: what was measured.
        arm: trained under several seeds.
        scale: 100 for scores in percent.
    """
    runs = list(arm.runs.values())
    interval = mean_of(runs_from(arm.runs))
    if interval is None:
        raise ValueError(f"{len(runs)} runs have no interval; two or more are needed.")
    low, high = (scale * end for end in within_share(interval))
    return FindingRow(
        name=name,
        value=scale * fmean(arm.scores),
        low=low,
        high=high,
        rate=arm.rate,
        rate_chosen="the task's own" if arm.is_control else "searched",
        steps=f"{steps_of(runs)} of {arm.num_steps:,}",
        ended=ends_of(runs),
        num_seeds=len(runs),
    )


def why_no_verdict(arms: Sequence[Arm]) -> tuple[PaperVerdict, str] | None:
    """Reason given in place of a verdict; None if the comparison may have one.

    A sentence is no stronger than its weakest arm: each needs enough seeds, more if some of them
    failed, its own searched rate, to have learned, and in most seeds to have settled. Being stuck
    refutes nothing: more steps, or another rate, may help. Where these were tried too, the words
    say that the task was not learned. Where all arms are at the ceiling of the task, it cannot tell
    them apart.
    """
    fewest = min(len(arm.scores) for arm in arms)
    trained = [arm for arm in arms if not arm.is_control]
    if fewest < FEWEST_SEEDS:
        return PaperVerdict.ONE_SEED, seeds_missing(fewest).partition(":")[0]
    if stuck := [arm for arm in trained if arm.stuck]:
        return PaperVerdict.NO_VERDICT, "; ".join(
            f"{arm.name}: {arm.not_learned}"
            if arm.not_learned
            else f"{arm.name} is stuck in {len(arm.stuck)} of {len(arm.runs)} seeds"
            for arm in stuck
        )
    if words := at_ceiling([fmean(arm.scores) for arm in trained]):
        return PaperVerdict.NOT_DISCRIMINATED, words
    if untuned := [arm.name for arm in arms if not arm.is_tuned]:
        rate, own = ("a rate that is", "its own")
        if len(untuned) > 1:
            rate, own = ("rates that are", "their own")
        words = f"{', '.join(untuned)} at {rate} not {own} search's for this task and its steps"
        return PaperVerdict.UNTUNED, words
    if split := [arm.name for arm in trained if needs_more_seeds([*arm.runs.values()])]:
        return PaperVerdict.NO_VERDICT, (
            f"some seeds of {', '.join(split)} failed, so {SEEDS_WHERE_SOME_FAIL} are needed"
        )
    short = {arm.name: sum(not run.has_settled for run in arm.runs.values()) for arm in trained}
    if unsettled := [arm for arm in trained if 2 * short[arm.name] > len(arm.runs)]:
        return PaperVerdict.NO_VERDICT, "; ".join(
            f"{arm.name} was still improving in {short[arm.name]} of {len(arm.runs)} seeds when "
            "its steps were spent"
            for arm in unsettled
        )
    return None
