"""Measure planned cells into a store, with retries, a budget, and other sweeps sharing the work."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from rich.console import Console

from bench.core.cell import Cell
from bench.core.clock import now_s
from bench.core.examples import example_files
from bench.core.progress import SweepProgress
from bench.core.record import Record
from bench.core.store import Store, Tail
from bench.measuring.config import SweepConfig
from bench.measuring.costs.estimate import expected_s
from bench.measuring.device import device_named
from bench.measuring.machine.environment import Environment
from bench.measuring.plan import PlannedCell
from bench.measuring.run import Runner, is_measured
from bench.measuring.sharing.leases import Leases
from bench.measuring.sharing.work import SharedWork
from bench.measuring.todo import affordable, is_of
from bench.measuring.worker.jobs import Deadline, Interrupt, Interrupted, Jobs
from bench.measuring.worker.launch import WorkerServer
from bench.measuring.worker.roofs import Roofs

LONGEST_PAUSE_S = 60.0
"""Longest pause between two attempts at a cell; the first is 1 s, and each is twice the last."""


@dataclass(kw_only=True)
class Done:
    """Result of measuring planned cells.

    Attributes:
        of_others: records of these cells that other sweeps wrote into the store meanwhile.
        busy_s: wall time spent inside measured calls.
        is_interrupted: whether Ctrl-C or `until` ended it early.
        left_out: cells without a record, after an early end or beyond the budget.
    """

    new: list[Record] = field(default_factory=list)
    of_others: list[Record] = field(default_factory=list)
    busy_s: float = 0.0
    is_interrupted: bool = False
    left_out: list[PlannedCell] = field(default_factory=list)


def measure(
    config: SweepConfig,
    todo: list[PlannedCell],
    here: Environment,
    server: WorkerServer,
    sweep_id: str,
    console: Console,
    *,
    until: Interrupt | None = None,
    tail: Tail | None = None,
) -> Done:
    """Measure cells; each record is on the disk before anything else sees it.

    Other sweeps that write into the same folder share the work. `until` ends it early, in place of
    Ctrl-C alone. `tail` reads records of other sweeps; it was opened before `todo` was computed, so
    that none is missed.
    """
    done = Done()
    if not todo:
        return done
    store = Store(config.out, f"{sweep_id.replace('/', '-')}-{os.getpid()}")
    store.check_space()
    if any(p.cell.is_task for p in todo):
        example_files(config.out)  # refuses what could not be written to once a model is trained
    tail = tail or Tail(config.out)
    tail.leave_out(store)
    expected = {p.cell.entry + p.cell.key: expected_cost_s(p, config) for p in todo}
    ends_s = until.ends_s if config.budget_s and isinstance(until, Deadline) else None
    with (
        until or Interrupt() as interrupt,
        Leases(config.out) as leases,
        SweepProgress(console, expected, ends_s) as progress,
    ):

        def tell(record: Record) -> None:
            done.of_others.append(record)
            progress.finish(record, "by another sweep")

        def keep(record: Record, is_last: bool) -> None:
            store.append(record)
            if is_last:
                done.new.append(record)
                progress.finish(record)
            else:
                progress.announce(f"{record.cell.describe()}: {record.status}, to be tried again")

        def settles(record: Record, cell: Cell) -> bool:
            return is_of(record, cell, here, config)

        jobs = Jobs(server, config.run.timeout_s, interrupt)
        work = SharedWork(leases, tail, settles, [p.cell for p in todo], tell)
        roofs = Roofs(here.calibration)
        runner = Runner(config, here, jobs, progress, sweep_id, work, roofs)
        done.left_out = list(todo)
        try:
            while batch := _next(done.left_out, ends_s, expected, progress.pace(), here):
                _run_with_retries(runner, batch, config.retry, interrupt, keep)
                done.left_out = without(done.left_out, batch)
        except Interrupted:
            done.is_interrupted = True
            ended = {record.cell.key for record in (*done.new, *done.of_others)}
            done.left_out = [p for p in done.left_out if p.cell.key not in ended]
        done.busy_s = jobs.busy_s
        return done


def _next(
    todo: list[PlannedCell],
    ends_s: float | None,
    expected: dict[str, float],
    pace: float,
    here: Environment,
) -> list[PlannedCell]:
    """Cells to measure next: all that are left, or with a budget those that fit into it."""
    if ends_s is None:
        return todo

    def cost(p: PlannedCell) -> float:
        shares_cores = p.cell.is_task and device_named(p.cell.device).shares_cores
        beside = here.num_cores if shares_cores else 1
        return pace * expected[p.cell.entry + p.cell.key] / beside

    return affordable(todo, cost, ends_s - now_s())


def _run_with_retries(
    runner: Runner,
    batch: list[PlannedCell],
    retry: int,
    interrupt: Interrupt,
    keep: Callable[[Record, bool], None],
) -> None:
    """Measure cells; those that may have failed for outside reasons again, after a pause.

    `keep` takes each record, and whether it is the last one of its cell.
    """
    for attempt in range(retry + 1):
        failed = set()
        for record in runner.run(batch):
            is_last = is_measured(record) or attempt == retry
            failed |= set() if is_last else {record.cell.key}
            keep(record, is_last)
        batch = [p for p in batch if p.cell.key in failed]
        if not batch:
            return
        interrupt.pause(min(2.0**attempt, LONGEST_PAUSE_S))


def without(planned: Sequence[PlannedCell], some: Sequence[PlannedCell]) -> list[PlannedCell]:
    """Planned cells that are not among `some`."""
    gone = {id(p) for p in some}
    return [p for p in planned if id(p) not in gone]


def expected_cost_s(p: PlannedCell, config: SweepConfig) -> float:
    """Expected wall time of a planned cell, in seconds; 0.01 if it is skipped."""
    return 0.01 if p.unsupported else expected_s(p.cell, config.measure)
