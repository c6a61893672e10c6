"""Runs for trackio: a dashboard in the browser, on this machine, without an account.

TRACKIO_DIR=results/trackio trackio show
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bench.publish.config import PublishConfig
from bench.publish.sinks.view import View


def write_trackio(views: Iterable[View], config: PublishConfig) -> tuple[list[Path], list[str]]:
    """Write a run for each view into ``out/trackio``, in place of earlier ones of the same name.

    Returns:
        The folder, and how to open it; or a note that names what is missing.
    """
    if importlib.util.find_spec("trackio") is None:
        return [], ["publish=trackio needs its package: pip install attnbench[dashboard]"]
    folder = (config.out / "trackio").absolute()
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["TRACKIO_DIR"] = str(folder)  # read once, when the package is imported
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    try:
        import trackio

        for view in views:
            with contextlib.redirect_stdout(io.StringIO()):
                _write(trackio, view, config)
    except Exception as error:
        return [], [f"trackio was left out: {error}. The records are unharmed."]
    project = config.wandb.project
    return [folder], [f"Open it: TRACKIO_DIR={folder} trackio show --project {project}"]


def _write(trackio: Any, view: View, config: PublishConfig) -> None:
    project = config.wandb.project
    from trackio.sqlite_storage import SQLiteStorage

    SQLiteStorage.delete_run(project, view.run_id)
    run = trackio.init(
        project=project,
        name=view.run_id,
        group=view.group or None,
        config=view.config,
        resume="never",
        embed=False,
        auto_log_gpu=False,
        auto_log_cpu=False,
    )
    for steps in view.steps:
        for size, scalars in steps.points:
            run.log(scalars, step=size)  # the x axis of the dashboard is its step
    tables = {
        name: trackio.Table(columns=list(table.columns), data=[list(row) for row in table.rows])
        for name, table in {**view.tables, **view.charts}.items()
    }
    run.log(tables, step=0)
    numbers = {f"summary/{name}": value for name, value in view.summary.items()}
    run.log(numbers, step=0)
    trackio.finish()  # and not of the run alone, which would be finished again at the end
