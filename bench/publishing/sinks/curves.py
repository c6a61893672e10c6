"""Scalars of a sweep along sizes and along training, under names with everything that differs."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from itertools import groupby
from typing import Any

from bench.core.record import Quality, Status
from bench.publishing.leaderboard import RANKED_BY, Leaderboard, Setting, Standing
from bench.publishing.scores import TaskScores
from bench.publishing.tables import task_axes

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
                for name in metrics
                if (value := standing.value(name)) is not None
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
