"""View of one sweep for a dashboard, in plain values: curves, tables, a summary, the records.

Scalars along sizes and along training have names with everything that differs.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any

from bench.core.format import interval_names
from bench.core.record import SCHEMA_VERSION, Quality, Record, Status
from bench.publishing.config import PublishConfig
from bench.publishing.frame import Row, row_of_record, row_of_score, row_of_standing
from bench.publishing.leaderboard import (
    RANKED_BY,
    Leaderboard,
    Setting,
    Standing,
    build_leaderboard,
)
from bench.publishing.metrics import columns_of, evaluate
from bench.publishing.scores import TaskScores
from bench.publishing.sinks.vega import PARETO, SCALING, pareto_rows, scaling_rows
from bench.publishing.tables import task_axes

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
        tables: rows of plain values, all with the same columns; none is empty.
        charts: such rows, by the name of the chart that is made from them.
        records: the sweep's records as JSON Lines.
    """

    sweep: str
    run_id: str
    group: str
    config: dict[str, Any]
    steps: tuple[Steps, ...]
    tables: dict[str, list[Row]]
    charts: dict[str, list[Row]]
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
            patterns=tuple(f"{prefix}{name}/*" for name in columns_of(config.metrics)),
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
        tables=_with_rows(
            leaderboard=_leaderboard(board, config.metrics),
            measurements=long_rows(records, config.metrics),
        ),
        charts=_with_rows(**{SCALING: scaling_rows(board), PARETO: pareto_rows(board)}),
        summary=summary(records, board),
        records="".join(f"{record.to_json()}\n" for record in records),
    )


def _with_rows(**tables: list[Row]) -> dict[str, list[Row]]:
    return {name: rows for name, rows in tables.items() if rows}


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
            if score.centre is not None:
                values[f"{task.metric}/{name}/{score.entry}"] = score.in_unit(score.centre)
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


def _leaderboard(board: Leaderboard, metrics: Sequence[str]) -> list[Row]:
    axes = dict.fromkeys(name for ranking in board.rankings for name in ranking.setting.axes)
    place = ("machine", "method_version", "device", "num_threads", "dtype")
    ranked = ("rank_first", "rank_last", "is_control", "name", "marks", "status")
    scores = (x for task in board.tasks for x in (task.metric, *interval_names(task.metric)))
    columns = [*place, *axes, *PREFIXES, "task", "num_seeds", *ranked, *columns_of(metrics)]
    rows = [row_of_standing(one, metrics) for each in board.rankings for one in each.standings]
    rows += [
        row_of_score(score, metrics, task.metric) | {"task": name}
        for name, task in named_tasks(board)
        for score in task.scores
    ]
    return _only(dict.fromkeys([*columns, "fvcore_verdict", *scores]), rows)


def _only(columns: Iterable[str], rows: Iterable[Row]) -> list[Row]:
    """Some columns of rows; a value that a row lacks is None."""
    names = [*columns]
    return [{name: row.get(name) for name in names} for row in rows]


_PLACE = ("sweep", "key", "commit", "started_at", "machine", "method_version")
_CELL = (
    *("device", "num_threads", "entry", "mechanism", "kind", "dtype", "mode", "scope", "causal"),
    *("compile", "cache", "batch_size", "num_heads", "head_dim", "seq_len", "key_len"),
    *("model", "image_size", "task_label", "seed"),
)
COLUMNS = (*_PLACE, *_CELL, "status", "reason", "metric", "value", "low", "high")


def long_rows(records: Sequence[Record], metrics: Sequence[str]) -> list[Row]:
    """One row per number; a cell without a result has one row with its reason.

    Columns are the same in every sweep, so that tables of several runs can be joined into one.
    """
    frame = (row_of_record(record, metrics) for record in records)
    return _only(COLUMNS, (row for own in frame for row in _long(own, metrics)))


def _long(own: Row, metrics: Sequence[str]) -> Iterator[Row]:
    if own["status"] != Status.OK:
        yield own
        return
    for name in metrics:
        if own[name] is not None:
            low, high = (own.get(end) for end in interval_names(name))
            yield own | {"metric": name, "value": float(own[name]), "low": low, "high": high}


PREFIXES = {"seq_len": "", "image_size": "model/"}
"""Axes of curves, and the prefix of the names of their scalars."""

HISTORY = "history/"
"""Prefix of the names of speed-ups in a summary."""


def curves(
    board: Leaderboard, metrics: Sequence[str], axis: str = "seq_len"
) -> Iterator[tuple[int, dict[str, float | int]]]:
    """Scalars at each size along an axis, ascending, named ``metric/setting/entry``.

    Those of whole models, along ``image_size``, are named ``model/metric/setting/entry``. Only
    sizes and settings with a number count, so that a failure elsewhere renames no curve.
    """
    timed = [
        ranking
        for ranking in board.rankings
        if ranking.setting.workload.size_axis == axis and any(map(_is_timed, ranking.standings))
    ]
    names = _setting_names({ranking.setting for ranking in timed})
    by_size = sorted(timed, key=lambda ranking: ranking.size)
    for size, group in groupby(by_size, key=lambda ranking: ranking.size):
        yield (
            size,
            {
                f"{PREFIXES[axis]}{name}/{names[ranking.setting]}/{standing.entry}": value
                for ranking in group
                for standing in ranking.standings
                for name, value in evaluate(standing.record, metrics).items()
                if value is not None
            },
        )


def training_curves(board: Leaderboard) -> Iterator[tuple[int, dict[str, float]]]:
    """Losses and validation scores of training runs, by the step after which they were taken.

    They are named ``train/validation/task/row/seed``, and ``train/loss/...``.
    """
    points: dict[int, dict[str, float]] = {}
    runs = (
        (f"{name}/{score.entry}/{record.cell.task.seed}", record.result)
        for name, task in named_tasks(board)
        for score in task.scores
        for record in score.records
    )
    for run, result in runs:
        if not isinstance(result, Quality):
            continue
        for step, score in zip(result.validation_steps, result.validation, strict=True):
            points.setdefault(step, {})[f"train/validation/{run}"] = score
        if result.num_steps is None:  # of a record from before steps were counted
            continue
        for place, loss in enumerate(result.losses, 1):
            step = round(result.num_steps * place / len(result.losses))
            points.setdefault(step, {})[f"train/loss/{run}"] = loss
    yield from sorted(points.items())


def named_tasks(board: Leaderboard) -> Iterator[tuple[str, TaskScores]]:
    """Tasks with their names: the label, and the axes in which tables of that label differ."""
    for task in board.tasks:
        # A machine's words are long; which one it is does not separate the tables of a task.
        axes = {axis: own for axis, own in task_axes(task, board).items() if axis != "machine"}
        yield " ".join([task.label, *(f"{axis}={_word(axes[axis])}" for axis in axes)]), task


def _word(value: Any) -> str:
    """A value without the characters that W&B's names may not hold."""
    return re.sub(r"[^\w.]+", "-", str(value))


def _is_timed(standing: Standing) -> bool:
    return standing.record.status is Status.OK


def _setting_names(settings: Collection[Setting]) -> dict[Setting, str]:
    """Names of settings: dtype, mode, and the other axes in which the settings differ."""
    names = {s: f"{s.workload.dtype} {s.workload.mode}" for s in settings}
    axes = {setting: setting.axes for setting in settings}
    # Whole models have other axes than single mechanisms, and a sweep may hold both.
    for axis in sorted({axis for own in axes.values() for axis in own}):
        values = sorted({own.get(axis) for own in axes.values()}, key=none_first)
        if axis in ("dtype", "mode") or len(values) < 2:
            continue
        for setting, own in axes.items():
            # A machine's words are long, and hold characters that W&B's names may not.
            value = own.get(axis)
            value = values.index(value) + 1 if axis == "machine" else value
            word = _word(value) if axis == "model" else value
            names[setting] += f" {axis}={word}"
    return names


def none_first(value: Any) -> tuple[bool, Any]:
    """Sort key for values of an axis, of which one may be None."""
    return value is not None, value


def history(board: Leaderboard) -> dict[str, float]:
    """Speed-ups at the longest length of each setting, as ``history/setting size/entry``."""
    timed = [r for r in board.rankings if any(map(_is_timed, r.standings))]
    names = _setting_names({ranking.setting for ranking in timed})
    longest = {ranking.setting: ranking for ranking in sorted(timed, key=lambda r: r.size)}
    return {
        f"{HISTORY}{names[setting]} {ranking.size}/{standing.entry}": float(value)
        for setting, ranking in longest.items()
        for standing in ranking.standings
        if (value := standing.value(RANKED_BY)) is not None
    }
