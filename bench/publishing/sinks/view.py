"""View of one sweep for a dashboard, in plain values: curves, tables, a summary, the records."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bench.core.record import SCHEMA_VERSION, Record
from bench.publishing.config import PublishConfig
from bench.publishing.leaderboard import Leaderboard, build_leaderboard
from bench.publishing.sinks.curves import (
    HISTORY,
    PREFIXES,
    curves,
    history,
    named_tasks,
    none_first,
    training_curves,
)
from bench.publishing.sinks.long_table import long_rows
from bench.publishing.sinks.vega import PARETO, SCALING, pareto_rows, scaling_rows

_NO_AXES = {
    "token_filters",
    "token_keep",
    "entry",
    "mechanism",
    "kind",
    "hyperparameters",
    "task_settings",
    "plugins",
}


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of plain values under names."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]

    @classmethod
    def of(cls, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> Table:
        """A table from rows by name; a value that a row lacks is None."""
        return cls(
            columns=tuple(columns),
            rows=tuple(tuple(row.get(name) for name in columns) for row in rows),
        )


@dataclass(frozen=True, kw_only=True)
class Steps:
    """Scalars along an axis, which is their step.

    Attributes:
        patterns: glob patterns of the scalars' names.
        points: value on the axis and scalars by name, ascending.
    """

    axis: str
    patterns: tuple[str, ...]
    points: tuple[tuple[int, dict[str, Any]], ...]


@dataclass(frozen=True, kw_only=True)
class View:
    """Content of one run of a dashboard.

    Attributes:
        run_id: the sweep's id, with characters replaced that dashboards do not allow.
        group: name that the jobs of one multirun share.
        charts: tables that charts are made from, by the chart's name.
        records: the sweep's records as JSON Lines.
    """

    sweep: str
    run_id: str
    group: str
    config: dict[str, Any]
    steps: tuple[Steps, ...]
    tables: dict[str, Table]
    charts: dict[str, Table]
    summary: dict[str, Any]
    records: str

    @property
    def scores(self) -> dict[str, Any]:
        """Scores of tasks among the numbers of the summary, named ``metric/task/row``."""
        named = {name: value for name, value in self.summary.items() if "/" in name}
        return {name: named[name] for name in named if not name.startswith(HISTORY)}

    @property
    def records_sha256(self) -> str:
        """SHA-256 of `records`, as hexadecimal digits."""
        return hashlib.sha256(self.records.encode()).hexdigest()


def view_of(records: Sequence[Record], sweep: str, config: PublishConfig) -> View:
    """The view of one sweep's records."""
    board = build_leaderboard(records, config.controls)
    along = [
        Steps(
            axis=axis,
            patterns=tuple(f"{prefix}{name}/*" for name in config.metrics),
            points=tuple(curves(board, config.metrics, axis)),
        )
        for axis, prefix in PREFIXES.items()
    ]
    trained = Steps(
        axis="train/step",
        patterns=("train/validation/*", "train/loss/*"),
        points=tuple(training_curves(board)),
    )
    return View(
        sweep=sweep,
        run_id=run_id(sweep),
        group=config.wandb.group or sweep.partition("/")[0],
        config=run_config(records, sweep),
        steps=(*along, trained),
        tables={
            "leaderboard": _leaderboard_table(board, config.metrics),
            "measurements": Table.of(*long_rows(records, config.metrics)),
        },
        charts={
            name: Table.of(tuple(rows[0]), rows)
            for name, rows in ((SCALING, scaling_rows(board)), (PARETO, pareto_rows(board)))
            if rows
        },
        summary=summary(records, board),
        records="".join(f"{record.to_json()}\n" for record in records),
    )


def run_id(sweep: str) -> str:
    """A sweep's run id: the sweep's own, with characters replaced that W&B does not allow."""
    return "".join(c if c.isalnum() or c in "-_" else "-" for c in sweep) or "sweep"


def summary(records: Sequence[Record], board: Leaderboard) -> dict[str, float | int]:
    """Numbers of the whole sweep: cells by status, scores, seconds spent, and its start.

    Speed-ups at the longest length, named ``history/...``, compare runs of several commits.
    """
    values: dict[str, float | int] = {"num_cells": board.num_cells}
    for record in records:
        name = f"num_{record.status}"
        values[name] = values.get(name, 0) + 1
    for name, task in named_tasks(board):
        for score in task.scores:
            if score.accuracy is not None:
                values[f"{task.metric}/{name}/{score.entry}"] = score.accuracy
    for part in ("measured", "total"):
        values[f"cost_{part}_s"] = sum(record.cost_s.get(part, 0.0) for record in records)
    if started := min((record.started_at for record in records), default=""):
        values["measured_at"] = datetime.fromisoformat(started).timestamp()
    return values | history(board)


def run_config(records: Sequence[Record], sweep: str) -> dict[str, Any]:
    """Settings of a run, and where it was measured."""
    cells = [record.cell.to_dict() for record in records]
    axes = {
        name: sorted({cell[name] for cell in cells if name in cell}, key=none_first)
        for name in sorted({name for cell in cells for name in cell} - _NO_AXES)
    }
    return {
        "sweep": sweep,
        "axes": axes,
        "entries": {
            cell["entry"]: {"mechanism": cell["mechanism"], **cell["hyperparameters"]}
            for cell in cells
        },
        "environment": dict(records[-1].environment),
        "schema_version": SCHEMA_VERSION,
        "method_version": records[-1].method_version,
    }


def _leaderboard_table(board: Leaderboard, metrics: Sequence[str]) -> Table:
    axes = dict.fromkeys(name for ranking in board.rankings for name in ranking.setting.axes)
    place = ("machine", "method_version", "device", "num_threads", "dtype")
    common = (*PREFIXES, "task", "seeds", "rank", "entry", "marks", "status")
    scores = (task.metric for task in board.tasks)
    columns = tuple(dict.fromkeys([*place, *axes, *common, *metrics, *scores]))
    rows: list[Mapping[str, Any]] = [
        ranking.setting.axes
        | {ranking.setting.workload.size_axis: ranking.size}
        | {"rank": standing.rank, "entry": standing.entry, "marks": "; ".join(standing.marks)}
        | {"status": str(standing.record.status)}
        | {name: standing.value(name) for name in metrics}
        for ranking in board.rankings
        for standing in ranking.standings
    ]
    rows += [
        task.place
        | {"task": name, "entry": score.entry, task.metric: score.accuracy}
        | {"seeds": len(score.accuracies), "chance": score.chance}
        | {"rank": score.rank or None}
        | {"marks": "; ".join(score.marks)}
        | {"status": ", ".join(score.statuses) or "ok"}
        for name, task in named_tasks(board)
        for score in task.scores
    ]
    return Table.of(columns, rows)
