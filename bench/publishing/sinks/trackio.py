"""Runs for trackio: a dashboard in the browser, on this machine, without an account.

Its charts have one line or bar per run, so each mechanism of a sweep is a run; the runs of a sweep
form a group.

TRACKIO_DIR=results/trackio trackio show
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from bench.publishing.config import PublishConfig
from bench.publishing.sinks.view import View


def write_trackio(views: Iterable[View], config: PublishConfig) -> tuple[list[Path], list[str]]:
    """Write the runs of each view into ``out/trackio``, in place of earlier ones of that name."""
    if importlib.util.find_spec("trackio") is None:
        return [], ["publish=trackio needs its package: pip install attnbench[dashboard]"]
    out = config.out.absolute()
    folder = out / "trackio"
    os.environ["TRACKIO_DIR"] = str(folder)  # read once, when the package is imported
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        import trackio

        for view in views:
            with contextlib.redirect_stdout(io.StringIO()):
                _write(trackio, view, config)
    except Exception as error:
        return [], [f"trackio was left out: {error}. The records are unharmed."]
    project = config.wandb.project
    return [folder], [f"Open it: TRACKIO_DIR={folder} trackio show --project {project}"]


def _write(trackio: Any, view: View, config: PublishConfig) -> None:
    """Log a run for each mechanism, and one with the tables and the summary."""
    for entry, points in by_entry(view).items():
        facts = {"sweep": view.sweep, "entry": entry, **view.config["entries"].get(entry, {})}
        _log(trackio, f"{entry} ({view.run_id})", facts, points, view, config)
    tables = {
        name: trackio.Table(columns=[*rows[0]], data=[[*row.values()] for row in rows])
        for name, rows in {**view.tables, **view.charts}.items()
    }
    facts = view.config | {"summary": view.summary}
    _log(trackio, view.run_id, facts, [(0, tables)], view, config)
    trackio.finish()  # not `run.finish`: the run would be finished again at exit


def _log(
    trackio: Any,
    name: str,
    facts: dict[str, Any],
    points: Sequence[tuple[int, dict[str, Any]]],
    view: View,
    config: PublishConfig,
) -> None:
    from trackio.sqlite_storage import SQLiteStorage

    SQLiteStorage.delete_run(config.wandb.project, name)
    run = trackio.init(
        project=config.wandb.project,
        name=name,
        group=view.group or None,
        config=facts,
        resume="never",
        embed=False,
        auto_log_gpu=False,
        auto_log_cpu=False,
    )
    for step, values in points:
        run.log(values, step=step)  # the x axis of the dashboard is its step


def by_entry(view: View) -> dict[str, list[tuple[int, dict[str, Any]]]]:
    """Group a view's scalars by mechanism, under names without the mechanism.

    The dashboard shows groups of names in alphabetical order: ``accuracy`` or another score,
    ``latency_s``, and all other numbers under ``more``.
    """
    found: dict[str, list[tuple[int, dict[str, Any]]]] = {}
    for name, value in view.scores.items():
        rest, _, entry = name.rpartition("/")
        found.setdefault(entry, []).append((0, {rest: value}))
    for steps in view.steps:
        for size, scalars in steps.points:
            own: dict[str, dict[str, Any]] = {}
            for name, value in scalars.items():
                rest, _, entry = name.rpartition("/")
                if steps.axis == "train/step":
                    seed, (rest, _, entry) = entry, rest.rpartition("/")
                    rest = f"{rest}/{seed}"
                elif not rest.startswith("latency_s/"):
                    rest = f"more/{rest}"
                own.setdefault(entry, {})[rest] = value
            for entry, values in own.items():
                found.setdefault(entry, []).append((size, values))
    return found
