"""The command: trials until their number or the time is reached, then the page."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.app.command import run_app
from bench.app.errors import ConfigError
from bench.app.files import check_writable, write_whole
from bench.cell import Cell
from bench.machine import environment
from bench.measure.clock import now_s, utc_now, utc_stamp
from bench.plan import plan
from bench.progress import UnitProgress
from bench.publish.format import format_duration
from bench.record import METHOD_VERSION
from bench.selftest.config import SelftestConfig, read_selftest_config
from bench.selftest.findings import goals_of
from bench.selftest.neighbour import Neighbour
from bench.selftest.page import page_of
from bench.selftest.trials import Trial, measure, units
from bench.worker.jobs import Interrupt, Interrupted, Jobs
from bench.worker.launch import WorkerServer

_LINE_EVERY_S = 30.0
_STOPPED = 130


@dataclass(frozen=True, kw_only=True)
class Run:
    """One file of data.

    Attributes:
        session: its first line: environment, settings, command and start.
    """

    path: Path
    session: dict[str, Any]
    trials: tuple[Trial, ...]


def selftest(composed: dict[str, Any]) -> int:
    """Measure and publish; 1 if a goal is missed."""
    console = Console()
    config = read_selftest_config(composed)
    if config.report:
        return publish(newest_run(config.sweep.out), config, console)
    check_writable(config.sweep.out)
    cells = tuple(p.cell for p in plan(config.sweep) if p.unsupported is None)
    if not cells:
        raise ConfigError("Nothing to compare: no cell of this plan is supported.")
    server = WorkerServer(config.sweep.run.allocator)
    here = environment.current(("cpu",), config.sweep.run.allocator, server.environment())
    session = {
        "command": shlex.join(["python", "-m", "bench.selftest", *sys.argv[1:]]),
        "environment": here.to_dict(),
        "method_version": METHOD_VERSION,
        "settings": config.settings,
        "started_at": utc_now(),
    }
    path = config.sweep.out / f"{utc_stamp()}.jsonl"
    write_whole(path, json.dumps(session, allow_nan=False) + "\n")
    is_stopped = run(config, cells, server, path, console)
    code = publish(read_run(path), config, console)
    return _STOPPED if is_stopped else code


def run(
    config: SelftestConfig,
    cells: Sequence[Cell],
    server: WorkerServer,
    path: Path,
    console: Console,
) -> bool:
    """Append each trial to `path` once it is made; True after Ctrl-C."""
    todo = tuple(units(config))
    guess = min(config.budget_s, sum(unit.expected_s for unit in todo))
    console.print(
        f"{len(todo)} comparisons in about {format_duration(guess)}; they go to "
        f"{path}. Leave the machine alone meanwhile.",
        highlight=False,
        soft_wrap=True,
    )
    ends = now_s() + config.budget_s
    with (
        server,
        Interrupt() as interrupt,
        Neighbour() as neighbour,
        UnitProgress(console, todo, line_every_s=_LINE_EVERY_S) as progress,
    ):
        server.start()
        jobs = Jobs(server, config.sweep.run.timeout_s, interrupt)
        for unit in todo:
            if now_s() + progress.expected_s(unit) > ends:
                within = format_duration(config.budget_s)
                console.print(f"No further trial would end within {within}.", highlight=False)
                return False
            progress.begin(unit)
            neighbour.switch(unit.is_loaded)
            try:
                append(path, measure(unit, cells, config, jobs))
            except Interrupted:
                return True
            progress.finish(unit)
            if interrupt.is_asked:
                return True
    return False


def append(path: Path, trials: Sequence[Trial]) -> None:
    """Add trials to a file.

    Raises:
        ConfigError: it cannot be written.
    """
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write("".join(trial.to_json() + "\n" for trial in trials))
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be written: {error.strerror}. Free space, or choose another out=DIR."
        ) from error


def newest_run(out: Path) -> Run:
    """The last run under a folder.

    Raises:
        ConfigError: there is none.
    """
    files = sorted(out.glob("*.jsonl"))
    if not files:
        raise ConfigError(f"There is no data in {out}. `make selftest` measures it in an hour.")
    return read_run(files[-1])


def read_run(path: Path) -> Run:
    """A file of data.

    Raises:
        ConfigError: it is not one.
    """
    first, *lines = path.read_text(encoding="utf-8").splitlines()
    try:
        session = json.loads(first)
        trials = tuple(Trial.from_json(line) for line in lines)
        if "settings" not in session:
            raise ValueError("its first line does not say how it was made")
        return Run(path=path, session=session, trials=trials)
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} is not data of the self-test: {error}. Move it away.") from error


def publish(run: Run, config: SelftestConfig, console: Console) -> int:
    """Write the page, and say which goals are met; 1 if one is missed."""
    if not run.trials:
        console.print("There was no time for a single trial, so there is no page.")
        return 0
    goals = goals_of(run.trials)
    for goal in goals:
        line = f"{goal.verdict}: {goal.words}: {goal.found}"
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    path = write_whole(config.page, page_of(run.path.name, run.session, run.trials))
    console.print(f"Wrote {path} from {run.path}", highlight=False, soft_wrap=True)
    return int(any(goal.verdict == "missed" for goal in goals))


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    return run_app("selftest", selftest, argv)
