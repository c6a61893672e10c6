"""Jobs of a multirun, on whatever host a launcher runs them: their folders and how they ended."""

from __future__ import annotations

import json
import shutil
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
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
        made: it and the folders above it, as far as they did not exist before, innermost first.
    """

    last: ClassVar[Path | None] = None
    made: ClassVar[tuple[Path, ...]] = ()

    def on_multirun_start(self, config: Any, **_: Any) -> None:
        """Called before the jobs are launched."""
        SweepFolder.last = folder = Path(config.hydra.sweep.dir)
        SweepFolder.made = tuple(p for p in (folder, *folder.parents) if not p.exists())
        launcher = config.hydra.launcher._target_.rpartition(".")[2]
        if launcher != "BasicLauncher":
            print(f"Jobs go out by {launcher}; what they say is in {self.last}", flush=True)

    def _ignore(self, **_: Any) -> None:
        """Ignore everything else that Hydra reports."""

    on_run_start = on_run_end = on_multirun_end = _ignore
    on_job_start = on_job_end = on_compose_config = _ignore


def leave_no_folder() -> None:
    """Remove the last multirun's folder, and those above it that were made for it alone."""
    if SweepFolder.last is not None:
        shutil.rmtree(SweepFolder.last, ignore_errors=True)
    with suppress(OSError):  # others have something in it
        for folder in SweepFolder.made[1:]:
            folder.rmdir()


@contextmanager
def ended_with_its_jobs(words: Sequence[str]) -> Iterator[None]:
    """Make SIGTERM raise KeyboardInterrupt inside a multirun, on which launchers end their jobs.

    Processes of joblib would otherwise run on for minutes, and keep the caller's pipe open.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not (is_main and {"-m", "--multirun"} & set(words)):
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def tell_ending(folder: str, code: int, config: dict[str, Any]) -> None:
    """Write a job's exit code and configuration, to be read by the process that launched it."""
    write_whole(Path(folder, _ENDING), json.dumps({"code": code, "config": config}))


def endings(folder: Path | None) -> Iterator[tuple[int, dict[str, Any]]]:
    """Exit code and configuration of each job in a folder that has ended, in their order."""
    files = [] if folder is None else folder.glob(f"*/{_ENDING}")
    for file in sorted(files, key=lambda file: int(file.parent.name)):
        ending = json.loads(file.read_text())
        yield ending["code"], ending["config"]
