"""The command: what is missing is measured, unit by unit, and the page follows from the data."""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from bench.app.command import check_writable, run_app
from bench.app.errors import ConfigError
from bench.app.files import write_whole
from bench.app.progress import UnitProgress, format_duration
from bench.machine import environment
from bench.machine.calibration import read_calibration
from bench.measure.clock import now_s
from bench.mechanisms.config import MechanismsConfig, read_mechanisms_config
from bench.mechanisms.crossovers import crossovers_of
from bench.mechanisms.data import Line, Measured, begin, new_session, read_measured
from bench.mechanisms.findings import failures_of, rows_of
from bench.mechanisms.measuring import confirmed as confirmed_unit
from bench.mechanisms.measuring import confirming, wants_confirmation
from bench.mechanisms.measuring import measured as measured_unit
from bench.mechanisms.page import all_sheets, page_of
from bench.mechanisms.planning import plan_units
from bench.mechanisms.sheets import Sheet, slower_sheet
from bench.mechanisms.table import FILE as TABLE
from bench.mechanisms.table import csv_of
from bench.mechanisms.units import Unit, id_of
from bench.worker.jobs import Interrupt, Interrupted, Jobs
from bench.worker.launch import WorkerServer

_WIDTH_WITHOUT_TERMINAL = 140


def compare(composed: dict[str, Any]) -> int:
    """Measure and publish; 1 if something is slower than it may be, by its whole interval.

    Nothing may be slower than the other form, nor with several threads than with one.
    """
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH_WITHOUT_TERMINAL)
    config = read_mechanisms_config(composed)
    if config.report:
        return publish(read_measured(config.out), config, console)
    check_writable(config.out)
    servers = {name: WorkerServer(name) for name in config.allocator}
    here = {
        name: environment.current(("cpu",), name, s.environment()) for name, s in servers.items()
    }
    machine = next(iter(here.values()))
    units = plan_units(config, memory_bytes=machine.memory_bytes, num_cores=machine.num_cores)
    if not units:
        raise ConfigError("Nothing to compare: no entry has the form and the length asked for.")
    mechanisms = {cell.mechanism for unit in units for cell in unit.cells}
    command = shlex.join(["python", "-m", "bench.mechanisms", *sys.argv[1:]])
    session = new_session(here, config.settings, mechanisms, command)
    data = begin(config.out, session, fresh=config.fresh)
    asked = asked_again(units, data, config.again)
    todo = [unit for unit in units if unit.id not in data.done or unit.id in asked]
    announce(todo, data, config, console)
    num_left = measure(todo, units, data, servers, config, console)
    if num_left is None:
        console.print("Stopped; the same command goes on from here.")
        return 130
    if num_left:
        console.print(
            f"{config.max_minutes:g} minutes are over and {num_left} measurements are left; the "
            "same command goes on from here."
        )
    return publish(data, config, console)


def asked_again(units: Sequence[Unit], data: Measured, words: str | None) -> set[tuple[Any, ...]]:
    """The ids of the units whose words hold these.

    Raises:
        ConfigError: none does; or nothing is stored that a unit could be measured again of.
    """
    if words is None:
        return set()
    if not data.lines:
        raise ConfigError(
            f"again={words!r}, but {data.path} holds nothing that was measured with these settings "
            "and sources on this machine. Leave again out, and all of it is measured."
        )
    found = {unit.id for unit in units if words in unit.describe()}
    if not found:
        raise ConfigError(
            f"again={words!r} is in the words of no measurement. They read like "
            f"{units[0].describe()!r}; give a part of such words."
        )
    return found


def announce(
    todo: Sequence[Unit], data: Measured, config: MechanismsConfig, console: Console
) -> None:
    """How much there is to do, before the first of it."""
    guess = format_duration(sum(unit.expected_s for unit in todo))
    known = f", {len(data.done)} are there already" if data.done else ""
    console.print(
        f"{len(todo)} measurements, about {guess} and at most {config.max_minutes:g} min{known}. "
        f"They go to {data.path}. Leave the machine to it: what else runs is measured as well.",
        highlight=False,
        soft_wrap=True,
    )


def measure(
    todo: Sequence[Unit],
    units: Sequence[Unit],
    data: Measured,
    servers: Mapping[str, WorkerServer],
    config: MechanismsConfig,
    console: Console,
) -> int | None:
    """Measure until all is done or the time is over, and then again what was found slower.

    Last, and not at once: what disturbs the machine for a minute is over by then.

    Returns:
        How many units are left; None after Ctrl-C, which loses the unit at work at most.
    """
    ends = now_s() + 60 * config.max_minutes
    with contextlib.ExitStack() as stack:
        interrupt = stack.enter_context(Interrupt())
        for name in {unit.place.allocator: None for unit in units}:
            stack.enter_context(servers[name])
        jobs = {name: Jobs(one, config.timeout_s, interrupt) for name, one in servers.items()}

        def each(some: Sequence[Unit], do: Callable[[Unit, Jobs], Line]) -> int | None:
            with UnitProgress(console, some) as progress:
                for number, unit in enumerate(some):
                    if now_s() + progress.expected_s(unit) > ends:
                        return len(some) - number
                    progress.begin(unit)
                    data.add(do(unit, jobs[unit.place.allocator]))
                    progress.finish(unit)
                    if interrupt.is_asked:
                        return None
            return 0

        try:
            num_left = each(todo, measured_unit)
            if num_left != 0:
                return num_left
            found = {id_of(line): line for line in data.lines}
            slower = [confirming(unit) for unit in units if wants_confirmation(found[unit.id])]
            return each(slower, lambda unit, jobs: confirmed_unit(unit, jobs, found[unit.id]))
        except Interrupted:
            return None


def publish(data: Measured, config: MechanismsConfig, console: Console) -> int:
    """Print and write the tables and the page; 1 if something is slower than it may be."""
    data = _calibrated(data, config)
    rows = rows_of(data)
    crossovers = crossovers_of(rows)
    slower = slower_sheet(rows)
    for sheet in (*all_sheets(data, rows, crossovers), slower):
        if sheet.rows:
            console.print(_table(sheet))
    for words in failures_of(data):
        console.print(f"Not measured: {words}", markup=False, highlight=False, soft_wrap=True)
    table = write_whole(config.out / TABLE, csv_of(rows))
    page = write_whole(config.page, page_of(data, rows, crossovers))
    console.print(f"Wrote {page} and {table} from {data.path}", highlight=False, soft_wrap=True)
    return int(bool(slower.rows))


def _calibrated(data: Measured, config: MechanismsConfig) -> Measured:
    """With the machine's ceilings, also those that were measured later; then they are kept."""
    environments = {
        name: facts
        | {"calibration": read_calibration(config.results, facts) or facts.get("calibration")}
        for name, facts in data.session.environments.items()
    }
    if environments == data.session.environments:
        return data
    calibrated = replace(data, session=replace(data.session, environments=environments))
    calibrated.write()
    return calibrated


def _table(sheet: Sheet) -> Table:
    table = Table(
        title=sheet.title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    for index, name in enumerate(sheet.header):
        table.add_column(name, no_wrap=True, justify="right" if index else "left")
    for row in sheet.rows:
        table.add_row(*row)
    return table


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    return run_app("mechanisms", compare, argv)
