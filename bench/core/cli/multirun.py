"""Jobs of a multirun, on whatever host a launcher runs them: their folders and how they ended."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

from bench.core.cli.files import write_whole

_ENDING = "ending.json"
"""File in a job's folder, with its exit code and configuration."""

EXTRAS = {
    "joblib": "parallel",
    "submitit_local": "slurm",
    "submitit_slurm": "slurm",
    "ray": "ray",
}
"""Extra of attnbench to install for each of Hydra's launchers."""


class SweepFolder:
    """Callback of Hydra that remembers the folder of a multirun's jobs.

    Attributes:
        last: that of the last multirun; None if there was none.
        made: it and the folders above it, resolved, as far as they did not exist before, innermost
            first; empty if it was there.
        before: endings that lay in it before its jobs, with the times of their last change.
    """

    last: ClassVar[Path | None] = None
    made: ClassVar[tuple[Path, ...]] = ()
    before: ClassVar[Mapping[Path, int]] = {}

    def on_multirun_start(self, config: Any, **_: Any) -> None:
        """Called before the jobs are launched."""
        SweepFolder.last = folder = Path(config.hydra.sweep.dir)
        whole = folder.resolve()
        SweepFolder.made = tuple(p for p in (whole, *whole.parents) if not p.exists())
        SweepFolder.before = _endings_in(folder)
        launcher = config.hydra.launcher._target_.rpartition(".")[2]
        if launcher != "BasicLauncher":
            print(f"Jobs go out by {launcher}; what they say is in {self.last}", flush=True)

    def _ignore(self, **_: Any) -> None:
        """Ignore everything else that Hydra reports."""

    on_run_start = on_run_end = on_multirun_end = _ignore
    on_job_start = on_job_end = on_compose_config = _ignore


def leave_no_folder() -> None:
    """Remove the last multirun's folder and those above it, as far as they were made for it."""
    if SweepFolder.made:  # what lies in a folder that was there is not ours to remove
        shutil.rmtree(SweepFolder.made[0], ignore_errors=True)
    with suppress(OSError):  # others have something in it
        for folder in SweepFolder.made[1:]:
            folder.rmdir()


def tell_ending(folder: str, code: int, config: dict[str, Any]) -> None:
    """Write a job's exit code and configuration, to be read by the process that launched it."""
    write_whole(Path(folder, _ENDING), json.dumps({"code": code, "config": config}))


def endings(folder: Path | None) -> Iterator[tuple[int, dict[str, Any]]]:
    """Exit code and configuration of each job of the last multirun that has ended, in order.

    A folder is named by its job's number unless the user gave another pattern, in which the numbers
    count first.
    """
    files = {} if folder is None else _endings_in(folder)
    new = [file for file, changed in files.items() if SweepFolder.before.get(file) != changed]
    for file in sorted(new, key=lambda file: _place(file.parent.name)):
        ending = json.loads(file.read_text())
        yield ending["code"], ending["config"]


def _endings_in(folder: Path) -> dict[Path, int]:
    """Endings of all jobs in a folder, with the times of their last change in nanoseconds."""
    return {file: os.lstat(file).st_mtime_ns for file in folder.glob(f"*/{_ENDING}")}


def _place(name: str) -> tuple[list[int], str]:
    """Sort key of a job's folder: ``job_2`` comes before ``job_10``."""
    return [int(digits) for digits in re.findall(r"\d+", name)], name
