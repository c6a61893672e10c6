"""The command: make trials until all are made or the time is over, then write the page."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from typing import Annotated, Any, Literal

from bench.core.cell import Cell
from bench.core.cli.errors import ConfigError
from bench.core.clock import utc_now, utc_stamp
from bench.core.format import format_duration, quantity
from bench.core.lines import Lines
from bench.core.record import METHOD_VERSION
from bench.core.settings import Budget, Folder, Interval, Settings, Some, model_validator
from bench.measuring.config import SweepConfig, read_sweep_config
from bench.measuring.plan import plan
from bench.measuring.worker.jobs import Interrupt, Jobs
from bench.studies.gate.command import OF_A_SWEEP
from bench.studies.selftest import trials
from bench.studies.selftest.neighbour import neighbour
from bench.studies.selftest.page import goals_of, page_of
from bench.studies.selftest.rival_suite import PYTEST, TIMER
from bench.studies.selftest.trials import Origin, Trial, measure, units
from bench.studies.session import Session

Line = Origin | Trial
MEND = "Move it away."
_LINE_EVERY_S = 30.0


class Trials(Settings):
    """Comparisons of each experiment."""

    unchanged: Annotated[int, Interval(ge=2, le=100_000)]
    slowdown: Annotated[int, Interval(ge=1, le=100_000)]
    rivals: Annotated[int, Interval(ge=1, le=100_000)]


class Selftest(Settings):
    """Everything but the cells, which are set as in `bench.sweep`; see conf/selftest.yaml."""

    trials: Trials
    budget: Budget
    report: bool
    rivals: Some[Literal["pytest_benchmark", "torch_timer"]]
    out: Folder
    page: Folder

    @model_validator(mode="after")
    def _is_installed(self) -> Selftest:
        is_asked = PYTEST in self.rivals and not self.report
        if is_asked and importlib.util.find_spec(PYTEST) is None:
            raise ValueError(
                "pytest-benchmark is not installed. Install it with `pip install -e '.[dev]'`, or "
                f"leave it out with rivals=[{TIMER}]."
            )
        return self


def study(asked: Selftest, session: Session) -> int:
    """Measure and publish; 1 if a goal is missed."""
    if asked.report:
        files = sorted(asked.out.glob("*.jsonl"))
        if not files:
            raise ConfigError(f"No data is in {asked.out}. `make selftest` measures it in an hour.")
        return publish(Lines[Line](files[-1], Line, mend=MEND), asked, session)
    sweep = sweep_of(session.composed)
    cells = tuple(p.cell for p in plan(sweep) if p.unsupported is None)
    if not cells:
        raise ConfigError("Nothing to compare: no cell of this plan is supported.")
    file = Lines[Line](asked.out / f"{utc_stamp()}.jsonl", Line, mend=MEND)
    settings = {
        "attention": [entry.label for entry in sweep.attention],
        "seq_len": list(sweep.axes.seq_len),
        "effort": asdict(trials.EFFORT),
        "side_s": trials.SIDE_S,
        "rival_threshold": trials.RIVAL_THRESHOLD,
        "cells_per_process": trials.CELLS_PER_PROCESS,
    }
    origin = Origin(
        command=session.command(),
        environment=session.here(sweep, ("cpu",)).to_dict(),
        method_version=METHOD_VERSION,
        settings=settings,
        started_at=utc_now(),
    )
    file.append(origin)
    run(asked, sweep, cells, file, session)
    return publish(file, asked, session)


def sweep_of(composed: Mapping[str, Any]) -> SweepConfig:
    """The sweep whose cells are compared with themselves."""
    own = {"task": {}, "seed": 0, "budget": None}  # the self-test has a budget of its own
    return read_sweep_config({**composed, **OF_A_SWEEP, **own})


def run(
    asked: Selftest, sweep: SweepConfig, cells: Sequence[Cell], file: Lines[Line], session: Session
) -> None:
    """Make the trials, and append each to a file as soon as it is made."""
    todo = units(**asked.trials.model_dump(), tools=asked.rivals)
    server, interrupt = session.server(sweep), Interrupt()
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
                file.append(*measure(unit, cells, jobs))


def publish(file: Lines[Line], asked: Selftest, session: Session) -> int:
    """Write the page, and say which goals are met; 1 if one is missed.

    Raises:
        ConfigError: the file holds no data of the self-test.
    """
    lines = file.read()
    origin = next((line for line in lines if isinstance(line, Origin)), None)
    made = [line for line in lines if isinstance(line, Trial)]
    if origin is None:
        raise ConfigError(f"{file.path} does not say how it was made. {MEND}")
    if not made:
        session.say("There was no time for a single trial, so there is no page.")
        return 0
    goals = tuple(goals_of(made))
    for goal in goals:
        session.say(f"{goal['verdict']}: {goal['goal']}: {goal['found']}")
    session.write(page_of(file.path.name, origin, made), asked.page)
    return int(any(goal["verdict"] == "missed" for goal in goals))
