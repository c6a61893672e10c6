"""Scores of training runs on a task: means over seeds, ranks, and what is not settled."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any

from bench.core.comparison import Runs, mean_of, within_share
from bench.core.format import bracketed, number, percent
from bench.core.record import Quality, Record, Status
from bench.core.seed_runs import runs_from, runs_of_spans, splits
from bench.core.spans import Span, at_height, span_of, span_words
from bench.core.statistics import Interval, median
from bench.publishing.machine import describe_machine
from bench.publishing.metrics.marks import NEEDS_SEEDS, marks, may_be_ranked
from bench.publishing.metrics.ranks import Pair, Ranked, Ranks, decided, rank_runs
from bench.publishing.naming import Names, identity


@dataclass(frozen=True, kw_only=True)
class Score(Ranked):
    """An entry's accuracies on a task. It has no rank with fewer than two seeds, or alone.

    Attributes:
        by_seed: seed and score of each run that was not skipped; None if it ended without a score.
            The score of a task with rungs is a height, see `bench.core.spans`.
        num_missing: seeds of other rows that have no accuracy here.
        num_unsettled: seeds that were still improving when their steps were spent.
        num_stuck: seeds that ended at chance or at a partial solution; 0 for a control.
        num_failed: seeds that are stuck, or whose score is nearer to such a level than to 100 %.
        is_split: whether seeds fall into two groups, see `bench.core.seed_runs.splits`.
        train_accuracy: `centre` of the scores on training examples; None if no record has one.
        steps_to_90: steps until 90 % of the validation answers were right, of the seeds that got
            there, lowest first.
        longer: number of tokens and scores of the seeds, on test examples that are longer than
            those of training.
        state_bytes: bytes that all layers keep of one example to continue it.
        rate: the learning rate; None if the task has none.
        is_searched: whether the rate of every seed was searched for this row.
        is_at_edge: whether it is the smallest or the largest of the rates that were tried.
        num_collapsed: seeds after which nearly all key features lay at the mechanism's floor.
        gates: inputs that the backbone projects for the mechanism besides queries, keys and values.
        matched: the size that was adjusted so that the model costs as much as the others, and its
            value; empty if none was.
        is_share: whether scores are shares of right answers, and not losses.
        spans: of the seeds that have one, on a task with rungs.
        runs: the same scores, with the answers to the test examples, for comparisons.
    """

    may_be_ranked: bool = True
    by_seed: tuple[tuple[int, float | None], ...]
    num_missing: int
    statuses: tuple[Status, ...]
    chance: float | None
    num_examples: int | None
    num_parameters: int | None
    num_unsettled: int = 0
    num_stuck: int = 0
    num_failed: int = 0
    is_split: bool = False
    train_accuracy: float | None = None
    steps_to_90: tuple[int, ...] = ()
    longer: tuple[tuple[int, tuple[float, ...]], ...] = ()
    state_bytes: int | None = None
    rate: float | None = None
    is_searched: bool = False
    is_at_edge: bool = False
    num_collapsed: int = 0
    gates: tuple[str, ...] = ()
    flops: int | None = None
    matched: str = ""
    is_share: bool = True
    spans: tuple[Span, ...] = ()
    runs: Runs = field(default_factory=lambda: Runs(scores={}), compare=False, repr=False)
    records: tuple[Record, ...] = ()

    def write(self, score: float) -> str:
        """A score in words: percent, a loss or, on a task with rungs, a span."""
        if self.spans:
            return span_words(score, self.spans[0].rungs)
        return percent(score) if self.is_share else number(score)

    def in_unit(self, score: float) -> float:
        """A score as a number: itself or, on a task with rungs, the span of a height."""
        return at_height(score, self.spans[0].rungs) if self.spans else score

    @property
    def curve(self) -> dict[int, float]:
        """Mean accuracy over the seeds at each rung; empty without rungs."""
        if not self.spans:
            return {}
        means = [fmean(at) for at in zip(*(s.accuracies for s in self.spans), strict=True)]
        return dict(zip(self.spans[0].rungs, means, strict=True))

    @property
    def accuracies(self) -> tuple[float, ...]:
        """Accuracies of the seeds that have one, lowest first."""
        return tuple(sorted(score for _, score in self.by_seed if score is not None))

    @property
    def accuracy(self) -> float | None:
        """Mean over the seeds that have one."""
        return fmean(self.accuracies) if self.accuracies else None

    @property
    def solves_nothing(self) -> bool:
        """Whether every run is stuck at chance or at a partial solution, or below."""
        return 0 < len(self.accuracies) == self.num_stuck

    @property
    def needs_seeds(self) -> bool:
        """Whether seeds split, and are too few for a verdict on such a row."""
        return NEEDS_SEEDS in self.marks

    @property
    def centre(self) -> float | None:
        """The mean, or the median where seeds split."""
        return self.centre_of(self.accuracies)

    def centre_of(self, values: Sequence[float]) -> float | None:
        """Mean of other numbers of the same seeds, or their median where seeds split."""
        if not values:
            return None
        return median(values) if self.is_split else fmean(values)

    @property
    def is_skipped(self) -> bool:
        """Whether every seed was skipped, for example because the task needs a causal form."""
        return not self.accuracies and set(self.statuses) == {Status.SKIPPED}

    @property
    def interval(self) -> Interval | None:
        """The 95 % interval of a typical seed, without bounds; None with fewer than two seeds."""
        return mean_of(self.runs, is_share=self.is_share)

    def interval_over(self, values: Sequence[float]) -> Interval | None:
        """As `shown_interval`, of other scores of the same seeds."""
        found = mean_of(Runs(scores=dict(enumerate(values))), is_share=self.is_share)
        if self.is_split or found is None:
            return None
        return within_share(found) if self.is_share else found

    @property
    def shown_interval(self) -> Interval | None:
        """`interval`, within 0 and 1 for a share; None where seeds split, since it is a mean's.

        None also if all seeds lie at one end of a ladder: how far beyond is not known.
        """
        is_at_end = self.spans and {*self.accuracies} in ({0.0}, {1.0})
        found = None if self.is_split or is_at_end else self.interval
        return within_share(found) if found and self.is_share else found


def score_words(score: Score) -> str:
    """Its mean with the interval, e.g. ``97.3 [96.1, 98.5]``; empty without a score.

    If seeds split, the median and how many of them failed: ``98.2 (failed 1 of 3)``.
    """
    if score.centre is None:
        return ""
    write = score.write
    if score.is_split:
        return f"{write(score.centre)} (failed {score.num_failed} of {len(score.accuracies)})"
    return bracketed(write, score.centre, score.shown_interval)


@dataclass(frozen=True, kw_only=True)
class TaskScores:
    """The entries on one task with one set of settings, best first.

    Attributes:
        settings: JSON of the task's settings, with the learning rate of rows without a search.
        plateaus: partial solutions in words, with the score of a model that learned no more.
        unit: unit of a score of which less is better; empty for a share of right answers.
        rung_of: unit of a rung, such as ``pairs``; empty for a task without rungs.
        causal: whether a token sees only those before it, by the records or the settings.
        ranks: of the scores that may be ranked; None with fewer than two seeds.
    """

    machine: str
    method_version: int
    device: str
    dtype: str
    num_threads: int
    label: str
    settings: str
    guesses: tuple[str, ...]
    num_seeds: int
    scores: tuple[Score, ...]
    plateaus: tuple[tuple[str, float], ...] = ()
    unit: str = ""
    rung_of: str = ""
    causal: bool = False
    ranks: Ranks | None = None
    training_version: int = 1

    @property
    def named_settings(self) -> dict[str, Any]:
        """The settings by name, as a new dictionary."""
        return dict(json.loads(self.settings))

    @property
    def decided(self) -> dict[Pair, int]:
        """For each pair of ranked rows 1, -1 or 0 if undecided, with Holm's correction."""
        names = self.ranks.names if self.ranks is not None else ()
        runs = {score.entry: score.runs for score in self.scores if score.entry in names}
        return decided(runs, less_is_better=bool(self.unit)) if len(runs) > 1 else {}

    @property
    def rungs(self) -> tuple[int, ...]:
        """The rungs of its ladder; empty without one."""
        return next((score.spans[0].rungs for score in self.scores if score.spans), ())

    @property
    def title(self) -> str:
        """The title of a column of its scores."""
        return f"span ({self.rung_of})" if self.rungs else self.unit or "accuracy (%)"

    @property
    def metric(self) -> str:
        """Name of its scores: ``accuracy``, ``span``, or their unit such as ``bits_per_byte``."""
        return "span" if self.rungs else self.unit.replace(" ", "_") or "accuracy"

    @property
    def place(self) -> dict[str, Any]:
        """Conditions, by name, that scores of two tasks must share to be compared.

        The machine is not among them: a score is not a timing.
        """
        names = ("method_version", "training_version", "device", "num_threads", "dtype")
        return {name: getattr(self, name) for name in names}


def task_setting(record: Record) -> tuple[str, str, int, str, str, int, str]:
    """Everything that records must share to be in one table, as a sort key of the tables.

    The machine is not part of it: a score is not a timing.
    """
    work = record.cell.task
    return (
        work.label,
        record.cell.device,
        record.cell.num_threads,
        work.dtype,
        work.task,
        record.training_version,
        json.dumps(work.shared_settings, sort_keys=True),
    )


def score_task(
    records: Sequence[Record],
    names: Names,
    controls: Sequence[str],
    *,
    within_budget: bool = False,
) -> TaskScores:
    """The table of records that share their `task_setting`; see `build_leaderboard`."""
    seeds = {record.cell.task.seed for record in records}
    # A span is what is held after so many steps, whether or not more would raise it.
    within_budget = within_budget or any(result.rungs for result in _qualities(records))
    unit = next((result.unit for result in _qualities(records)), "")
    scores = [
        _score(name, group, len(seeds), controls, within_budget=within_budget)
        for name, group in _rows(records, names).items()
    ]
    ranks = rank_runs(
        {s.entry: s.runs for s in scores if s.may_be_ranked and not s.is_control},
        less_is_better=bool(unit),
    )
    plateaus = {words: score for r in _qualities(records) for words, score in r.plateaus.items()}
    first = max(records, key=lambda record: record.started_at)
    return TaskScores(
        machine=describe_machine(first),
        method_version=first.method_version,
        training_version=first.training_version,
        device=first.cell.device,
        dtype=first.cell.task.dtype,
        num_threads=first.cell.num_threads,
        label=first.cell.task.label,
        settings=json.dumps(first.cell.task.shared_settings, sort_keys=True),
        guesses=tuple(sorted({result.guess for result in _qualities(records)})),
        num_seeds=len(seeds),
        scores=_sorted(scores, ranks, less_is_better=bool(unit)),
        plateaus=tuple(sorted(plateaus.items())),
        unit=unit,
        rung_of=next((result.rung_of for result in _qualities(records)), ""),
        causal=any(result.causal for result in _qualities(records))
        or first.cell.task.settings.get("causal") is True,
        ranks=ranks,
    )


def _rows(records: Sequence[Record], names: Names) -> dict[str, list[Record]]:
    """Records by row; an entry that was trained at several rates has a row for each."""
    rows: dict[str, dict[float | None, list[Record]]] = {}
    for record in records:
        of_entry = rows.setdefault(names[identity(record.cell)], {})
        of_entry.setdefault(record.cell.task.settings.get("learning_rate"), []).append(record)
    return {
        name if len(of_entry) == 1 else f"{name} at {rate}": group
        for name, of_entry in rows.items()
        for rate, group in of_entry.items()
    }


def _score(
    entry: str,
    records: Sequence[Record],
    num_seeds: int,
    controls: Sequence[str],
    *,
    within_budget: bool,
) -> Score:
    records = sorted(records, key=lambda record: (record.cell.task.seed, record.cell.key))
    results = _qualities(records)
    is_control = records[0].cell.mechanism in controls
    is_split = not is_control and splits(results)
    trained = [r.train_accuracy for r in results if r.train_accuracy is not None]
    found = {r.cell.task.seed: r.result for r in records if isinstance(r.result, Quality)}
    spans = {seed: span for seed, result in found.items() if (span := span_of(result))}
    scored = {seed: result.accuracy for seed, result in found.items()}
    scored |= {seed: span.height for seed, span in spans.items()}
    by_seed = tuple(
        sorted(
            (record.cell.task.seed, scored.get(record.cell.task.seed))
            for record in records
            if record.status is not Status.SKIPPED
        )
    )
    return Score(
        entry=entry,
        may_be_ranked=may_be_ranked(*records, within_budget=within_budget),
        marks=marks(*records),
        is_control=is_control,
        by_seed=by_seed,
        num_missing=num_seeds - len(results),
        statuses=tuple(sorted({r.status for r in records if r.status is not Status.OK})),
        chance=median([result.chance for result in results]),
        num_examples=results[0].num_examples if results else None,
        num_parameters=results[0].num_parameters if results else None,
        num_stuck=sum(bool(r.stuck_at) for r in results) if not is_control else 0,
        num_failed=sum(result.has_failed for result in results),
        is_split=is_split,
        train_accuracy=(median if is_split else fmean)(trained) if trained else None,
        num_unsettled=sum(not result.has_settled for result in results),
        steps_to_90=tuple(sorted(r.steps_to_90 for r in results if r.steps_to_90 is not None)),
        longer=_longer(results),
        state_bytes=results[0].state_bytes if results else None,
        rate=records[0].cell.task.settings.get("learning_rate"),
        is_searched=all(record.cell.task.shared_rate is not None for record in records),
        is_at_edge=any(record.cell.task.is_at_edge for record in records),
        num_collapsed=sum(result.collapsed is True for result in results),
        gates=results[0].gates if results else (),
        flops=results[0].flops if results else None,
        matched=results[0].matched if results else "",
        is_share=not any(result.unit for result in results),
        spans=tuple(span for _, span in sorted(spans.items())),
        runs=runs_of_spans(found, spans, dict(by_seed))
        if spans
        else runs_from(found, dict(by_seed)),
        records=tuple(records),
    )


def _longer(results: Sequence[Quality]) -> tuple[tuple[int, tuple[float, ...]], ...]:
    """Scores of the seeds that have one at a length, by rising length."""
    scores: dict[int, list[float]] = {}
    for result in results:
        for length, score in result.longer.items():
            scores.setdefault(int(length), []).append(score)
    return tuple((length, tuple(own)) for length, own in sorted(scores.items()))


def _sorted(
    scores: Sequence[Score], ranks: Ranks | None, *, less_is_better: bool
) -> tuple[Score, ...]:
    """The scores with their ranks, best first; those that may not be ranked follow."""
    sign = 1 if less_is_better else -1
    if ranks and len(ranks.names) > 1:  # a single row needs no rank
        scores = [replace(score, rank=ranks.of(score.entry)) for score in scores]
    return tuple(
        sorted(
            scores,
            key=lambda s: (
                s.accuracy is None,
                not s.may_be_ranked,
                sign * (s.centre or 0),
                s.entry,
            ),
        )
    )


def _qualities(records: Iterable[Record]) -> list[Quality]:
    return [record.result for record in records if isinstance(record.result, Quality)]
