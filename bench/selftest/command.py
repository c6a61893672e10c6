"""The command: what is missing is measured, unit by unit, and the page follows from the data."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from bench.app.command import check_writable, run_app
from bench.app.errors import ConfigError
from bench.app.files import write_whole
from bench.app.progress import UnitProgress, format_duration
from bench.cell import Cell
from bench.machine import environment
from bench.measure import load
from bench.measure.clock import now_s
from bench.plan import plan
from bench.selftest.config import SelftestConfig, read_selftest_config
from bench.selftest.data import Journal, Line, new_session, newest_run
from bench.selftest.findings import Goal, findings_of
from bench.selftest.neighbour import Neighbour
from bench.selftest.ours import ask_the_gate, measure_precision
from bench.selftest.overhead import measure_overhead
from bench.selftest.page import page_of
from bench.selftest.rivals import ask_a_rival
from bench.selftest.units import Unit, plan_units
from bench.worker.jobs import Interrupt, Interrupted, Jobs
from bench.worker.launch import WorkerServer

_LINE_EVERY_S = 30.0


def selftest(composed: dict[str, Any]) -> int:
    """Measure and publish; 1 if a goal is missed."""
    console = Console()
    config = read_selftest_config(composed)
    if config.report:
        return publish(config, console)
    check_writable(config.out)
    cells = tuple(p.cell for p in plan(config.sweep) if p.unsupported is None)
    if not cells:
        raise ConfigError("Nothing to compare: no cell of this plan is supported.")
    server = WorkerServer(config.sweep.run.allocator)
    here = environment.current(("cpu",), config.sweep.run.allocator, server.environment())
    command = shlex.join(["python", "-m", "bench.selftest", *sys.argv[1:]])
    session = new_session(here, config.settings, cells, command)
    journal = Journal(config.out, session, fresh=config.fresh)
    todo = [u for u in plan_units(config, config.parts) if u.id not in journal.done]
    announce(todo, journal, config, console)
    bench = Bench(config=config, cells=cells, server=server, interrupt=Interrupt())
    num_left = measure(todo, bench, journal, console)
    if num_left is None:
        console.print("Stopped; the same command goes on from here.")
        return 130
    if num_left:
        console.print(
            f"{config.max_minutes:g} minutes are over and {num_left} measurements are left; the "
            "same command goes on from here."
        )
    return publish(config, console)


def announce(
    todo: Sequence[Unit], journal: Journal, config: SelftestConfig, console: Console
) -> None:
    """How much there is to do, before the first of it."""
    guess = format_duration(sum(unit.expected_s for unit in todo))
    known = f", {len(journal.done)} are there already" if journal.done else ""
    console.print(
        f"{len(todo)} measurements, about {guess} and at most {config.max_minutes:g} min{known}. "
        f"They go to {journal.path}. Leave the machine to it: what else runs is measured as well.",
        highlight=False,
        soft_wrap=True,
    )


def measure(todo: Sequence[Unit], bench: Bench, journal: Journal, console: Console) -> int | None:
    """Measure until all is done or the time is over.

    Returns:
        How many units are left; None after Ctrl-C, which loses the unit at work alone.
    """
    ends = now_s() + 60 * bench.config.max_minutes
    with (
        bench.server,
        bench.interrupt,
        Neighbour() as neighbour,
        UnitProgress(console, todo, line_every_s=_LINE_EVERY_S) as progress,
    ):
        try:
            bench.server.start()  # its seconds are nobody's
            for number, unit in enumerate(todo):
                if now_s() + unit.expected_s > ends:
                    return len(todo) - number
                progress.begin(unit)
                neighbour.switch(unit.is_loaded)
                journal.append(bench.watched(unit))
                progress.finish(unit)
                if bench.interrupt.is_asked:
                    return None
        except Interrupted:
            return None
    return 0


@dataclass(frozen=True, kw_only=True)
class Bench:
    """All that a unit needs to be measured."""

    config: SelftestConfig
    cells: tuple[Cell, ...]
    server: WorkerServer
    interrupt: Interrupt

    def watched(self, unit: Unit) -> Line:
        """A unit's line, with how long it took and how busy the machine was meanwhile."""
        before = load.snapshot()
        found = self.measured(unit)
        after = load.snapshot()
        wall_s = after.wall_s - before.wall_s
        busy = (after.busy_s - before.busy_s) / wall_s
        return unit.to_dict() | {"wall_s": round(wall_s, 2), "busy_cores": round(busy, 2)} | found

    def measured(self, unit: Unit) -> Line:
        """What was observed.

        Raises:
            Interrupted: on Ctrl-C.
        """
        if unit.part == "rivals":
            environment = self.server.environment()
            return ask_a_rival(unit, self.cells, self.config, environment, self.interrupt)
        if unit.part == "overhead":
            return measure_overhead(self.config, self.server, self.interrupt)
        jobs = Jobs(self.server, self.config.sweep.run.timeout_s, self.interrupt)
        if unit.part == "precision":
            return measure_precision(unit, self.cells, self.config, jobs)
        return ask_the_gate(unit, self.cells, self.config, jobs)


def publish(config: SelftestConfig, console: Console) -> int:
    """Write the page from the newest data, and say which goals are met."""
    run = newest_run(config.out)
    findings = findings_of(run)
    for goal in findings.goals:
        line = f"{_MARKS[goal.is_met]} {goal.words}: {goal.found}"
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    path = write_whole(config.page, page_of(run, findings))
    console.print(f"Wrote {path} from {run.path}", highlight=False, soft_wrap=True)
    return exit_code(findings.goals)


_MARKS = {True: "met     ", False: "MISSED  ", None: "not yet "}


def exit_code(goals: Sequence[Goal]) -> int:
    """1 if a goal is missed; one that has not been measured is not."""
    return int(any(goal.is_met is False for goal in goals))


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    return run_app("selftest", selftest, argv)
