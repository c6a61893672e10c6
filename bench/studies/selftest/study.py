"""The command: make trials until all are made or the time is over, then write the page."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.core.cell import Cell
from bench.core.cli.errors import ConfigError
from bench.core.clock import utc_now, utc_stamp
from bench.core.format import format_duration, quantity
from bench.core.lines import Lines
from bench.core.record import METHOD_VERSION
from bench.measuring.config import SweepConfig, read_sweep_config
from bench.measuring.machine import environment
from bench.measuring.measure.stopping import Stopping
from bench.measuring.plan import plan
from bench.measuring.worker.jobs import Interrupt, Jobs
from bench.studies.selftest.findings import goals_of
from bench.studies.selftest.neighbour import neighbour
from bench.studies.selftest.page import page_of
from bench.studies.selftest.settings import Selftest
from bench.studies.selftest.trials import Origin, Trial, measure, units
from bench.studies.session import Session

Line = Origin | Trial
_LINE_EVERY_S = 30.0
_OF_A_SWEEP = {
    **{"task": {}, "seed": 0, "dry_run": False, "force": False, "require_ok": False},
    **{"budget": None, "measure": asdict(Stopping())},  # the self-test has a budget of its own
}


def study(asked: Selftest, session: Session) -> int:
    """Measure and publish; 1 if a goal is missed."""
    if asked.report:
        return publish(newest_file(asked.out), asked, session)
    sweep = sweep_of(session.composed)
    cells = tuple(p.cell for p in plan(sweep) if p.unsupported is None)
    if not cells:
        raise ConfigError("Nothing to compare: no cell of this plan is supported.")
    allocator, server = sweep.run.allocator, session.server(sweep)
    file = data_file(asked.out / f"{utc_stamp()}.jsonl")
    origin = Origin(
        command=shlex.join(["attnbench", "selftest", *sys.argv[1:]]),
        environment=environment.current(("cpu",), allocator, server.environment()).to_dict(),
        method_version=METHOD_VERSION,
        settings={
            "attention": [entry.label for entry in sweep.attention],
            "seq_len": list(sweep.axes.seq_len),
            "effort": asdict(asked.gate),
            "side_s": asked.side_s,
            "rival_threshold": asked.rivals.threshold,
            "cells_per_process": asked.rivals.cells_per_process,
        },
        started_at=utc_now(),
    )
    file.append(origin)
    run(asked, sweep, cells, file, session)
    return publish(file, asked, session)


def sweep_of(composed: Mapping[str, Any]) -> SweepConfig:
    """The sweep whose cells are compared with themselves."""
    return read_sweep_config({**composed, **_OF_A_SWEEP})


def run(
    asked: Selftest, sweep: SweepConfig, cells: Sequence[Cell], file: Lines[Line], session: Session
) -> None:
    """Make the trials, and append each to a file as soon as it is made."""
    todo, server, interrupt = tuple(units(asked)), session.server(sweep), Interrupt()
    guess = format_duration(min(asked.budget, sum(unit.expected_s for unit in todo)))
    session.say(
        f"{quantity(len(todo), 'comparison')} in about {guess}; they go to {file.path}. "
        "Leave the machine alone meanwhile."
    )
    server.start()
    jobs = Jobs(server, sweep.run.timeout_s, interrupt)
    each = session.each(
        todo,
        "trial",
        line_every_s=_LINE_EVERY_S,
        until=interrupt,
        within_s=asked.budget,
        goes_on=False,
    )
    with each as due:
        for unit in due:
            with neighbour() if unit.is_loaded else nullcontext():
                file.append(*measure(unit, cells, asked, jobs))


def data_file(path: Path) -> Lines[Line]:
    """A data file: its origin in the first line, then a trial a line."""
    return Lines[Line](path, Line, mend="Move it away.")


def newest_file(out: Path) -> Lines[Line]:
    """The data file of the last run under a folder.

    Raises:
        ConfigError: there is none.
    """
    files = sorted(out.glob("*.jsonl"))
    if not files:
        raise ConfigError(f"There is no data in {out}. `make selftest` measures it in an hour.")
    return data_file(files[-1])


def publish(file: Lines[Line], asked: Selftest, session: Session) -> int:
    """Write the page, and say which goals are met; 1 if one is missed.

    Raises:
        ConfigError: the file holds no data of the self-test.
    """
    lines = file.read()
    origin = next((line for line in lines if isinstance(line, Origin)), None)
    trials = [line for line in lines if isinstance(line, Trial)]
    if origin is None:
        raise ConfigError(f"{file.path} does not say how it was made. Move it away.")
    if not trials:
        session.say("There was no time for a single trial, so there is no page.")
        return 0
    goals = tuple(goals_of(trials))
    for goal in goals:
        session.say(f"{goal['verdict']}: {goal['goal']}: {goal['found']}")
    session.write(page_of(file.path.name, origin, trials), asked.page)
    return int(any(goal["verdict"] == "missed" for goal in goals))
