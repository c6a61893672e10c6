"""Mean accuracy over several tasks; a row that lacks one has no mean, only an interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import sqrt

from bench.core.grouping import grouped
from bench.core.statistics import Interval
from bench.publishing.leaderboard import Leaderboard
from bench.publishing.metrics.ranks import Ranked, place_among
from bench.publishing.scores import Score, TaskScores


@dataclass(frozen=True, kw_only=True)
class OverallRow(Ranked):
    """One row over the tasks; no row is ranked if one has no interval.

    Attributes:
        mean: over all averaged tasks; None if the row lacks a score on one of them that counts.
        interval: 95 % interval of a typical seed, in which a task without a score that counts may
            have any share of right answers. None if a task was run with one seed.
        num_covered: averaged tasks on which its score `counts`.
    """

    mean: float | None
    interval: Interval | None
    num_covered: int


@dataclass(frozen=True, kw_only=True)
class Overall:
    """Rows over the tasks that were run on one machine and device, in one dtype.

    Attributes:
        tasks: all of them, in the order of their tables.
        averaged: those on which some row has a score that counts.
        rows: those with every task first, best first; none if fewer than two tasks are averaged.
    """

    tasks: tuple[TaskScores, ...]
    averaged: tuple[TaskScores, ...]
    rows: tuple[OverallRow, ...]


def overall(board: Leaderboard) -> tuple[Overall, ...]:
    """Means over tasks; never across training versions, devices, threads or dtypes.

    Only shares of right answers are averaged: spans and bits per byte are in other units.
    """
    shares = (task for task in board.tasks if not (task.unit or task.rungs))
    groups = grouped(shares, lambda task: tuple(task.place.values()))
    return tuple(_overall(tasks) for tasks in groups.values() if len(tasks) > 1)


def counts(score: Score) -> bool:
    """Whether a score enters a mean: it may be ranked, lacks no seed, and its seeds do not split.

    So a row that solves nothing does not count.
    """
    return score.may_be_ranked and not score.num_missing and not score.is_split


def _overall(tasks: Sequence[TaskScores]) -> Overall:
    averaged = [t for t in tasks if any(counts(s) and not s.is_control for s in t.scores)]
    names = dict.fromkeys(score.entry for task in averaged for score in task.scores)
    rows = [row for name in names if len(averaged) > 1 and (row := _row(name, averaged))]
    return Overall(
        tasks=tuple(tasks),
        averaged=tuple(averaged),
        rows=tuple(
            sorted(
                _placed(rows),
                key=lambda row: (row.is_control, -row.num_covered, -(row.mean or 0), row.entry),
            )
        ),
    )


def _placed(rows: Sequence[OverallRow]) -> list[OverallRow]:
    """The rows with ranks, if all rows but controls have an interval."""
    intervals = [row.interval for row in rows if not row.is_control]
    everyone = [interval for interval in intervals if interval]
    if len(everyone) < len(intervals):
        return [*rows]
    return [
        row
        if row.is_control or row.interval is None
        else replace(row, rank=place_among(row.interval, everyone))
        for row in rows
    ]


def _row(name: str, tasks: Sequence[TaskScores]) -> OverallRow | None:
    """A row over the tasks; None if no score of it counts."""
    scores = [score for task in tasks for score in task.scores if score.entry == name]
    covered = [score for score in scores if counts(score)]
    known = [score.accuracy for score in covered if score.accuracy is not None]
    if not known:
        return None
    least = sum(known) / len(tasks)
    has_seeds = all(task.num_seeds > 1 for task in tasks)
    return OverallRow(
        entry=name,
        is_control=scores[0].is_control,
        mean=least if len(known) == len(tasks) else None,
        interval=_interval(covered, least, len(tasks)) if has_seeds else None,
        num_covered=len(known),
    )


def _interval(covered: Sequence[Score], least: float, num_tasks: int) -> Interval:
    """Square and add: seeds of different tasks are independent, and each side adds for itself.

    Source: Zou and Donner, Construction of confidence limits about effect measures (2008).
    """
    known = [
        (score.accuracy, score.interval)
        for score in covered
        if score.accuracy is not None and score.interval
    ]
    below = sqrt(sum((mean - low) ** 2 for mean, (low, _) in known)) / num_tasks
    above = sqrt(sum((high - mean) ** 2 for mean, (_, high) in known)) / num_tasks
    most = least + (num_tasks - len(known)) / num_tasks
    return max(0.0, least - below), min(1.0, most + above)
