"""Rankings of records: which may share a table, which rows are ahead, and which have no number."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields, replace
from typing import Any

from bench.core.cell import ModelWorkload, TimedWorkload
from bench.core.grouping import grouped
from bench.core.record import Record, Speed, Status
from bench.core.statistics import Interval, Value
from bench.core.store import latest
from bench.publishing.machine import commit_of, describe_machine
from bench.publishing.metrics import find_metric
from bench.publishing.metrics.marks import marks, may_be_ranked
from bench.publishing.metrics.ranks import Ranked, Ranks, rank_speed
from bench.publishing.naming import identity, row_names
from bench.publishing.scores import Score, TaskScores, score_task, task_setting

RANKED_BY = "speedup_over"
OTHER_ROUNDS = "timed in other rounds"
"""Mark of a row that was not timed in the same rounds as the newest row of its table."""

_DTYPES = ("float32", "bfloat16", "float16", "float64")
_MODES = ("forward", "backward", "forward_backward", "train_step", "prefill", "decode")


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Everything that records must share to be ranked together, except their size.

    Attributes:
        workload: with its size, ``seq_len`` or a model's ``image_size``, set to 0. Fields that are
            added to it later separate tables without a change here.
    """

    machine: str
    method_version: int
    device: str
    num_threads: int
    workload: TimedWorkload

    @property
    def is_model(self) -> bool:
        """True for a row of a whole model."""
        return isinstance(self.workload, ModelWorkload)

    @property
    def axes(self) -> dict[str, Any]:
        """Every axis except the size, by name."""
        shape = asdict(self.workload)
        del shape[self.workload.size_axis]
        place = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "workload"}
        return place | shape

    @property
    def extras(self) -> dict[str, Any]:
        """Optional axes of the workload that differ from their defaults."""
        return {
            field.name: getattr(self.workload, field.name)
            for field in fields(self.workload)
            if field.default is not MISSING and getattr(self.workload, field.name) != field.default
        }

    @property
    def order(self) -> tuple[object, ...]:
        """Sort key: models last, then by the other axes, float32 and forward first.

        A causal setting follows the bidirectional one that is otherwise like it.
        """
        rest = self.axes
        dtype, mode, causal = rest.pop("dtype"), rest.pop("mode"), bool(rest.pop("causal", False))
        # None cannot be compared with values; it sorts first.
        places = ((value is not None, 0 if value is None else value) for value in rest.values())
        known = (*_place_in(_DTYPES, dtype), *_place_in(_MODES, mode))
        return (self.is_model, *places, *known, causal)


def _place_in(known: Sequence[str], word: str) -> tuple[int, str]:
    return (known.index(word) if word in known else len(known), word)


@dataclass(frozen=True, kw_only=True)
class Standing(Ranked):
    """A row of a ranking. Without an interval, or with a mark that forbids it, it has no rank."""

    record: Record

    @property
    def records(self) -> tuple[Record]:
        """Its record, as a row over seeds has several."""
        return (self.record,)

    def value(self, metric: str) -> Value:
        """A metric of its record; None unless the record is ok."""
        return find_metric(metric).of(self.record)

    def interval(self, metric: str) -> Interval | None:
        """The 95 % interval of a metric of its record; None if it has none."""
        of = find_metric(metric).interval
        return of(self.record) if of else None

    @property
    def reference(self) -> str:
        """Label of the reference; empty for a cell that was not timed beside one."""
        result = self.record.result
        is_compared = isinstance(result, Speed) and result.reference_latency_s
        return result.reference if isinstance(result, Speed) and is_compared else ""


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """The entries at one setting and one size, best first.

    Attributes:
        size: the sequence length, or the image size of a model.
        ranks: of the standings that can be ranked; None if there are none, or if speed-ups are over
            several references.
    """

    setting: Setting
    size: int
    standings: tuple[Standing, ...]
    ranks: Ranks | None = None

    @property
    def references(self) -> tuple[str, ...]:
        """Labels of the references that the entries are compared with, without duplicates."""
        return tuple(sorted({s.reference for s in self.standings} - {""}))

    @property
    def num_processes(self) -> tuple[int, ...]:
        """Numbers of processes that shared the rounds of a row, ascending."""
        return _num_processes(standing.record for standing in self.standings)


@dataclass(frozen=True, kw_only=True, eq=False)
class Leaderboard:
    """Everything that a page of results shows. Compared by identity, so that it can be a cache key.

    Attributes:
        machines: descriptions of the machines; a page numbers them if several took timings.
        holes: records of the cells that are not ok, with their reasons.
        num_cells: cells with a record, holes included.
        started_at: start of the first and of the last record; UTC, ISO 8601, or empty.
        commits: short commits of the code that measured; ``*`` marks uncommitted changes.
        num_processes: numbers of processes that shared the rounds of a timing, ascending.
    """

    machines: tuple[str, ...]
    rankings: tuple[Ranking, ...]
    tasks: tuple[TaskScores, ...]
    holes: tuple[Record, ...]
    num_cells: int
    started_at: tuple[str, str]
    commits: tuple[str, ...] = ()
    num_processes: tuple[int, ...] = ()

    @property
    def timed_on(self) -> frozenset[str]:
        """The machines that took timings."""
        return frozenset(ranking.setting.machine for ranking in self.rankings)

    @property
    def rows(self) -> list[Standing | Score]:
        """The rows of all rankings and tasks."""
        standings = [standing for ranking in self.rankings for standing in ranking.standings]
        return [*standings, *(score for task in self.tasks for score in task.scores)]


def build_leaderboard(
    records: Iterable[Record], controls: Sequence[str] = (), *, within_budget: bool = False
) -> Leaderboard:
    """Rank the newest record of each cell among those that it may be compared with.

    `controls` are mechanisms that are shown last and not ranked. With `within_budget`, scores are
    ranked as results of a fixed number of steps, so a row that still improved at its last step is
    as well.
    """
    newest = latest(records)
    names = row_names(record.cell for record in newest)
    timed = grouped((r for r in newest if not r.cell.is_task), _setting_and_size)
    tasks = grouped((r for r in newest if r.cell.is_task), task_setting)
    rankings = [
        _ranking(setting, size, [(names[identity(r.cell)], r) for r in group], controls)
        for (setting, size), group in timed.items()
    ]
    starts = sorted(record.started_at for record in newest)
    return Leaderboard(
        machines=tuple(sorted({describe_machine(record) for record in newest})),
        rankings=tuple(sorted(rankings, key=lambda r: (r.setting.order, r.size))),
        tasks=tuple(
            score_task(tasks[setting], names, controls, within_budget=within_budget)
            for setting in sorted(tasks, key=_by_number)
        ),
        holes=tuple(sorted((r for r in newest if r.status is not Status.OK), key=_hole_order)),
        num_cells=len(newest),
        started_at=(starts[0], starts[-1]) if starts else ("", ""),
        commits=tuple(sorted({commit_of(record) for record in newest} - {""})),
        num_processes=_num_processes(newest),
    )


def _num_processes(records: Iterable[Record]) -> tuple[int, ...]:
    timed = (r.result for r in records if isinstance(r.result, Speed))
    return tuple(sorted({len({*speed.processes}) or 1 for speed in timed}))


def differing(everywhere: Iterable[Mapping[str, Any]]) -> set[str]:
    """Names of the axes in which settings differ; an axis that one of them lacks counts as None."""
    places = list(everywhere)
    names = {name for axes in places for name in axes}
    return {name for name in names if len({axes.get(name) for axes in places}) > 1}


def _by_number(setting: tuple[str, *tuple[object, ...]]) -> tuple[object, ...]:
    """Sort key: the label, with ``num_pairs=4`` before ``num_pairs=16``, then the other parts."""
    label, *rest = setting
    return (re.sub(r"\d+", lambda digits: digits[0].zfill(12), label), *rest)


def _setting_and_size(record: Record) -> tuple[Setting, int]:
    work = record.cell.timed
    setting = Setting(
        machine=describe_machine(record),
        method_version=record.method_version,
        device=record.cell.device,
        num_threads=record.cell.num_threads,
        workload=replace(work.without_size(), compile="eager"),  # the compiler is named by the row
    )
    return setting, work.size


def _ranking(
    setting: Setting,
    size: int,
    rows: Sequence[tuple[str, Record]],
    controls: Sequence[str],
) -> Ranking:
    references = {r.result.reference_key for _, r in rows if isinstance(r.result, Speed)}
    has_one = len(references) == 1  # speed-ups over different references cannot be ordered
    ranked = {
        name: record
        for name, record in rows
        if has_one and record.cell.mechanism not in controls and may_be_ranked(record)
    }
    ranks = rank_speed(ranked)
    newest_first = sorted((r for _, r in rows), key=lambda r: (r.started_at, r.cell.key))[::-1]
    newest_rounds = next(filter(None, map(_rounds_key, newest_first)), "")
    standings = []
    for name, record in rows:
        is_apart = _rounds_key(record) not in ("", newest_rounds)
        standings.append(
            Standing(
                entry=name,
                rank=ranks.of(name) if ranks else None,
                is_control=record.cell.mechanism in controls,
                record=record,
                marks=(*marks(record), *([OTHER_ROUNDS] if is_apart else [])),
            )
        )
    ordered = sorted(standings, key=_standing_order if has_one else _latency_order)
    return Ranking(setting=setting, size=size, standings=tuple(ordered), ranks=ranks)


def _rounds_key(record: Record) -> str:
    return record.result.rounds_key if isinstance(record.result, Speed) else ""


def _standing_order(standing: Standing) -> tuple[object, ...]:
    """Order of rows: by speed-up, then those with a latency only, unranked, controls, and holes."""
    speedup = standing.value(RANKED_BY)
    return (
        standing.record.status is not Status.OK,
        standing.is_control,
        not may_be_ranked(standing.record),
        -(speedup or 0),
        standing.entry,
    )


def _latency_order(standing: Standing) -> tuple[object, ...]:
    """Order of rows if speed-ups are over several references; without latencies as above.

    By latency within the same rounds: latencies of different rounds cannot be compared. The newest
    rounds come first, as rows of others have a mark.
    """
    latency = standing.value("latency_s")
    place = (latency is None, standing.is_control, not may_be_ranked(standing.record))
    rounds = (OTHER_ROUNDS in standing.marks, _rounds_key(standing.record))
    return (*place, *rounds, latency or 0.0, standing.entry)


def _hole_order(record: Record) -> tuple[object, ...]:
    cell = record.cell
    if cell.is_task:
        return (2, cell.entry, cell.task.label, cell.task.seed, "")
    if cell.is_model:
        return (1, cell.entry, cell.model.model, cell.model.image_size, cell.describe())
    shape = cell.kernel
    return (0, cell.entry, shape.dtype, shape.seq_len, cell.describe())
