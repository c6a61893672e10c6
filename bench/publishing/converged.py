"""Scores of rows whose training steps were doubled until the scores stopped changing."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from bench.core.format import number, percent
from bench.core.seed_runs import FEWEST_SEEDS
from bench.publishing.document import text_table
from bench.publishing.metrics.ranks import Ranks, rank_runs, rank_words
from bench.publishing.scores import Score, TaskScores, score_words
from bench.publishing.tables import Section

CONVERGED = 0.01
"""Change of a row's mean by doubling its steps, below which it has converged: one point, or a
hundredth of the score's unit."""

UNDER_TRAINED = "under-trained"
"""Mark of a row whose mean a doubling raises by `CONVERGED` or more."""


@dataclass(frozen=True, kw_only=True)
class Doublings:
    """A row's scores at increasing numbers of steps, each with a learning rate of its own.

    Attributes:
        steps: ascending, each twice the one before.
        scores: one for each number of steps.
        unit: unit of a score of which less is better; empty for a share of right answers.
    """

    entry: str
    steps: tuple[int, ...]
    scores: tuple[Score, ...]
    unit: str = ""

    @property
    def changes(self) -> tuple[float, ...]:
        """Differences of the mean from one number of steps to the next, over the seeds of both."""
        return tuple(_change(one, other) for one, other in pairwise(self.scores))

    @property
    def gains(self) -> tuple[float, ...]:
        """`changes`, above zero where the longer training is better."""
        return tuple(-change if self.unit else change for change in self.changes)

    @property
    def has_converged(self) -> bool:
        """Whether the last doubling changed the mean by less than a point, with no seed stuck.

        Nor may seeds split, if they are too few for a verdict on such a row.
        """
        return (
            bool(self.changes)
            and abs(self.changes[-1]) < CONVERGED
            and not self.scores[-1].num_stuck
            and not self.scores[-1].needs_seeds
        )


def _change(one: Score, other: Score) -> float:
    before, after = dict(one.by_seed), dict(other.by_seed)
    gains = [
        score - old
        for seed, score in after.items()
        if score is not None and (old := before.get(seed)) is not None
    ]
    return sum(gains) / len(gains)


def by_steps(tasks: Sequence[TaskScores]) -> dict[str, dict[int, TaskScores]]:
    """Tasks grouped by all settings except the number of steps, then by the number of steps.

    Tasks with rungs are left out: a span is what is held after so many steps.
    """
    found: dict[str, dict[int, TaskScores]] = {}
    for task in tasks:
        settings = task.named_settings
        steps = settings.pop("num_steps", None)
        if steps is not None and not task.rungs:
            place = (task.training_version, task.device, task.num_threads, task.dtype)
            about = json.dumps([task.label, *place, settings], sort_keys=True)
            found.setdefault(about, {})[int(steps)] = task
    return found


def doublings(tasks: dict[int, TaskScores]) -> list[Doublings]:
    """Rows, except controls, that were trained at some number of steps and at twice as many.

    A doubling that is still under way, with too few seeds or others than before, is left out.
    """
    rows: dict[str, dict[int, Score]] = {}
    for steps, task in sorted(tasks.items()):
        for score in task.scores:
            if score.accuracies and not score.is_control:
                rows.setdefault(score.entry, {})[steps] = score
    found = []
    for entry, at in rows.items():
        chain = [min(at)]
        # Less where the shortest training has fewer.
        needed = min(FEWEST_SEEDS, len(at[chain[0]].accuracies))
        while (longer := at.get(2 * chain[-1])) and len(longer.accuracies) >= needed:
            if not at[chain[-1]].runs.known.keys() & longer.runs.known.keys():
                break
            chain.append(2 * chain[-1])
        if len(chain) > 1:
            scores = tuple(at[steps] for steps in chain)
            unit = tasks[chain[0]].unit
            found.append(Doublings(entry=entry, steps=tuple(chain), scores=scores, unit=unit))
    return found


def with_under_trained(task: TaskScores, steps: int, rows: Sequence[Doublings]) -> TaskScores:
    """The task, with a mark on each row whose mean improves if its steps are doubled."""
    low = {
        row.entry
        for row in rows
        for at, gain in zip(row.steps, row.gains, strict=False)
        if at == steps and gain >= CONVERGED
    }
    scores = tuple(
        replace(s, marks=(*s.marks, UNDER_TRAINED)) if s.entry in low else s for s in task.scores
    )
    return replace(task, scores=scores)


def converged_section(title: str, rows: Sequence[Doublings]) -> Section:
    """The table of rows at their last doubling; only those that have converged are ranked."""
    ended = {row.entry: row.scores[-1].runs for row in rows if row.has_converged}
    unit = rows[0].unit
    ranks, sign = rank_runs(ended, less_is_better=bool(unit)), 1 if unit else -1
    order = sorted(
        rows, key=lambda row: (not row.has_converged, sign * (row.scores[-1].centre or 0))
    )
    return Section(
        title=title,
        tables=(
            text_table(
                title="last doubling",
                header=(
                    *("rank", "entry", unit or "accuracy (%)", "each seed"),
                    *("training" if unit else "training (%)", "steps"),
                    f"change by the last doubling ({unit or 'points'})",
                    *("learning rate", "means by steps"),
                ),
                rows=tuple(_row(row, ranks) for row in order),
                num_words=2,
            ),
        ),
        notes=tuple(_notes(rows)),
    )


def _row(row: Doublings, ranks: Ranks | None) -> tuple[str, ...]:
    last = row.scores[-1]
    write = number if row.unit else percent
    means = [write(score.centre or 0.0) for score in row.scores]
    change = row.changes[-1]
    return (
        rank_words(ranks.of(row.entry)) if ranks and len(ranks.names) > 1 else "",
        row.entry,
        score_words(last),
        " ".join(map(write, last.accuracies)),
        "" if last.train_accuracy is None else write(last.train_accuracy),
        f"{row.steps[-1]:,}",
        f"{change:+.3f}" if row.unit else f"{100 * change:+.1f}",
        "" if last.rate is None else f"{last.rate:g}",
        ", ".join(f"{s:,}: {mean}" for s, mean in zip(row.steps, means, strict=True)),
    )


def _notes(rows: Sequence[Doublings]) -> Iterator[str]:
    least = f"{CONVERGED:g} {rows[0].unit}" if rows[0].unit else "a point"
    yield (
        "Steps are doubled, each time with a search of the rate and with fresh runs, until the "
        f"mean over seeds changes by less than {least}."
    )
    if rising := [row.entry for row in rows if not row.has_converged]:
        yield f"Not converged, so not ranked: {', '.join(rising)}."
