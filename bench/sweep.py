"""`python -m bench.sweep`: measure every cell that was asked for, and publish the table."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from rich.console import Console

from attentions import attention_names
from bench.app.command import check_writable, run_app
from bench.app.errors import ConfigError, did_you_mean
from bench.cell import Cell
from bench.config import SweepConfig, read_sweep_config
from bench.costs.estimate import expected_s
from bench.machine import environment
from bench.machine.calibration import read_calibration, with_calibration
from bench.machine.environment import Environment
from bench.measure.clock import now_s
from bench.plan import PlannedCell, plan
from bench.progress import SweepProgress
from bench.publish import (
    PublishConfig,
    print_files,
    print_leaderboard,
    publish,
    read_publish_config,
)
from bench.publish.format import format_duration, quantity
from bench.publish.leaderboard import Leaderboard, build_leaderboard
from bench.record import Record, Status
from bench.run import Runner, is_measured
from bench.shapes import left_out
from bench.sharing.claims import Claims
from bench.sharing.work import SharedWork
from bench.store import Store, Tail, read_records
from bench.todo import affordable, is_of, missing, of_shard, only_these
from bench.worker.jobs import Deadline, Interrupt, Interrupted, Jobs
from bench.worker.launch import WorkerServer
from bench.worker.roofs import Roofs

TABLES_S = 6.0
"""Part of a budget in which tables and charts are written."""

LONGEST_PAUSE_S = 60.0
"""Between two attempts at a cell; the first pause is 1 s, and each is twice the last."""


def sweep(composed: dict[str, Any]) -> int:
    """Measure what is missing here, append each record at once, then write all tables."""
    started = composed["began_s"]
    console = Console()
    config = read_sweep_config(composed)
    publishing = read_publish_config(composed)
    check_writable(config.out)
    with WorkerServer(config.run.allocator) as server:
        planned = of_shard(plan(config, server), config.shard)
        _refuse_unknown(publishing.controls)
        if not planned:
            console.print(f"No cell of the plan is in shard={config.shard}.", highlight=False)
            return 0
        present = environment.available_devices()  # a dry run plans for others as well
        devices = tuple(d for d in dict.fromkeys(p.cell.device for p in planned) if d in present)
        here = environment.current(devices, config.run.allocator, server.environment())
        here = replace(here, calibration=read_calibration(config.out, here.to_dict()))
        tail = Tail(config.out)
        kept = () if config.force else read_records(config.out, missing_ok=True)
        if config.only:
            todo = only_these(config.only, planned, kept, here)
        else:
            todo = missing(planned, kept, here, config)
        if config.dry_run:
            print_plan(console, planned, todo, config)
            print_left_out(console, config)
            return 0
        sweep_id = composed["sweep_id"]
        until = None if config.budget_s is None else _deadline(started, config.budget_s)
        done = measure(config, todo, here, server, sweep_id, console, until=until, tail=tail)

    records = with_calibration(read_records(config.out, missing_ok=True), config.out)
    published = publish(records, publishing, sweep=sweep_id)
    print_leaderboard(_board_of(planned, records, publishing), publishing, console)
    console.print()
    print_files(published.files, published.notes, console)
    print_left_out(console, config)
    print_ending(console, planned, done, now_s() - started)
    if config.budget_s is not None:
        print_over_budget(console, done.left_out, config.budget_s)
    if done.is_interrupted and not (isinstance(until, Deadline) and until.is_over):
        left = len(done.left_out)
        console.print(f"Stopped; {left} cells are left. The same command goes on from here.")
        return 130
    return verdict(console, config, _without(planned, done.left_out), records)


def _refuse_unknown(controls: Sequence[str]) -> None:
    known = attention_names()
    for name in controls:
        if name not in known:
            raise ConfigError(
                f"controls names {name!r}, and no mechanism is called that. "
                f"{did_you_mean(name, known)}"
            )


def print_all_jobs(jobs: list[dict[str, Any]]) -> None:
    """Print the cells of a multirun's jobs as the one table that they make, folder by folder."""
    console = Console()
    for out in dict.fromkeys(job["out"] for job in jobs):
        mine = [job for job in jobs if job["out"] == out and not job["dry_run"]]
        if len(mine) < 2:
            continue
        with WorkerServer() as server:
            planned = [p for job in mine for p in plan(read_sweep_config(job), server)]
        publishing = read_publish_config(mine[-1])
        records = with_calibration(read_records(publishing.out), publishing.out)
        console.print(f"\nAll {len(mine)} jobs:", style="bold", highlight=False)
        print_leaderboard(_board_of(planned, records, publishing), publishing, console)


@dataclass(kw_only=True)
class Done:
    """What came of the cells that were to be measured.

    Attributes:
        new: records made here.
        of_others: records that other sweeps made of them meanwhile, into the same store.
        busy_s: wall time spent inside measured calls.
        is_interrupted: whether it was ended early, by somebody or by `until`.
        left_out: what has no record: it was ended early, or the budget was too small.
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
    """Measure the cells to do, each record on the disk before anything else sees it.

    Other sweeps that write into the same folder share the work.

    Args:
        config: says where, and for how long.
        todo: all of them.
        here: this machine.
        server: forks the workers.
        sweep_id: of the records.
        console: where progress is shown.
        until: what ends it early; Ctrl-C by itself.
        tail: of the store, from before it was read to find what is to do.
    """
    done = Done()
    if not todo:
        return done
    store = Store(config.out, f"{sweep_id.replace('/', '-')}-{os.getpid()}")
    store.check_space()
    tail = tail or Tail(config.out)
    tail.leave_out(store)
    expected = {p.cell.entry + p.cell.key: _expected(p, config) for p in todo}
    ends_s = until.ends_s if config.budget_s and isinstance(until, Deadline) else None
    with (
        until or Interrupt() as interrupt,
        Claims(config.out) as claims,
        SweepProgress(console, expected, ends_s) as progress,
    ):

        def tell(record: Record) -> None:
            done.of_others.append(record)
            progress.show_machines(work.machines)
            progress.finish(record, "by another sweep")

        def keep(record: Record, is_last: bool) -> None:
            store.append(record)
            work.finished(record)
            progress.show_machines(work.machines)
            if is_last:
                done.new.append(record)
                progress.finish(record)
            else:
                progress.announce(f"{record.cell.describe()}: {record.status}, to be tried again")

        def settles(record: Record, cell: Cell) -> bool:
            return is_of(record, cell, here, config)

        jobs = Jobs(server, config.run.timeout_s, interrupt)
        work = SharedWork(claims, tail, settles, [p.cell for p in todo], tell)
        roofs = Roofs(here.calibration)
        runner = Runner(config, here, jobs, progress, sweep_id, work, roofs)
        done.left_out = list(todo)
        try:
            while batch := _next(done.left_out, ends_s, expected, progress.pace(), here):
                _run_with_retries(runner, batch, config.retry, interrupt, keep)
                done.left_out = _without(done.left_out, batch)
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
    """All that is left; of a sweep with a budget, what comes next within it."""
    if ends_s is None:
        return todo

    def cost(p: PlannedCell) -> float:
        beside = here.num_cores if p.cell.is_task and p.cell.device == "cpu" else 1
        return pace * expected[p.cell.entry + p.cell.key] / beside

    return affordable(todo, cost, ends_s - now_s())


def _run_with_retries(
    runner: Runner,
    batch: list[PlannedCell],
    retry: int,
    interrupt: Interrupt,
    keep: Callable[[Record, bool], None],
) -> None:
    """Measure cells, and those that may have failed for outside reasons again, after a while.

    Args:
        runner: measures them.
        batch: the cells.
        retry: how often.
        interrupt: ends the wait.
        keep: takes each record, and whether it is the last one of its cell.
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


def _without(planned: Sequence[PlannedCell], some: Sequence[PlannedCell]) -> list[PlannedCell]:
    gone = {id(p) for p in some}
    return [p for p in planned if id(p) not in gone]


def _board_of(
    planned: Sequence[PlannedCell], records: Sequence[Record], publishing: PublishConfig
) -> Leaderboard:
    """The leaderboard of this plan's cells: what a person who ran it wants to see."""
    keys = {p.cell.key for p in planned}
    return build_leaderboard((r for r in records if r.cell.key in keys), publishing.controls)


def _expected(p: PlannedCell, config: SweepConfig) -> float:
    return 0.01 if p.unsupported else expected_s(p.cell, config.measure)


def print_plan(
    console: Console,
    planned: tuple[PlannedCell, ...],
    todo: list[PlannedCell],
    config: SweepConfig,
) -> None:
    """Every cell, whether it would run, and about how long all would take."""
    left = {id(p) for p in todo}
    for p in planned:
        state = p.unsupported or ("" if id(p) in left else "measured here already")
        line = f"{p.cell.key}  {p.cell.describe()}" + (f": {state}" if state else "")
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    runs = [p for p in todo if not p.unsupported]
    guess = format_duration(sum(_expected(p, config) for p in runs))
    num_unsupported = sum(bool(p.unsupported) for p in planned)
    console.print(
        f"{len(planned)} cells: {len(runs)} to measure, {num_unsupported} "
        f"unsupported, {len(planned) - len(todo)} measured here already. "
        f"Estimated duration: about {guess}. Nothing was measured (dry_run=true)."
    )


def print_left_out(console: Console, config: SweepConfig) -> None:
    """Shapes of the product of axes that are no cells, since they have no meaning."""
    for reason, count in left_out(config.axes).items():
        shapes = "1 shape" if count == 1 else f"{count} shapes"
        console.print(f"Not planned, {shapes}: {reason}", markup=False, highlight=False)


def print_over_budget(console: Console, left_out: Sequence[PlannedCell], budget_s: float) -> None:
    """What the budget had no time for, shape by shape."""
    words = f"the budget of {format_duration(budget_s)}"
    if not left_out:
        console.print(f"Everything was measured within {words}.", highlight=False)
        return
    cells = quantity(len(left_out), "cell")
    console.print(
        f"Left out to keep {words}, {cells}; the same command goes on from here:", highlight=False
    )
    shapes = Counter(p.cell.describe().partition(" ")[2] for p in left_out)
    for shape, count in shapes.items():
        console.print(f"  {quantity(count, 'cell')} at {shape}", markup=False, highlight=False)


def _deadline(started_s: float, budget_s: float) -> Deadline:
    """When measuring has to end, so that the tables are written within the budget."""
    return Deadline(started_s + budget_s - min(TABLES_S, budget_s / 4))


def print_ending(
    console: Console,
    planned: tuple[PlannedCell, ...],
    done: Done,
    wall_s: float,
) -> None:
    """How many cells ended how, and what the harness itself cost."""
    counts = Counter(str(r.status) for r in done.new)
    endings = ", ".join(f"{count} {status}" for status, count in counts.most_common()) or "nothing"
    line = f"{quantity(len(planned), 'cell')} planned; measured now: {endings}."
    if done.of_others:
        line += f" Other sweeps measured {len(done.of_others)} of them meanwhile."
    if done.busy_s:
        share = 100 * done.busy_s / wall_s
        line += (
            f" {format_duration(wall_s)}, of which {share:.0f} % inside measured calls, memory and "
            f"FLOP passes or training; the harness took {100 - share:.0f} %."
        )
    console.print(line, highlight=False)


def verdict(
    console: Console,
    config: SweepConfig,
    planned: Sequence[PlannedCell],
    records: Sequence[Record],
) -> int:
    """1 if every supported cell had to be ok and one is not."""
    if not config.require_ok:
        return 0
    last = {r.cell.key: r.status for r in sorted(records, key=lambda r: r.started_at)}
    supported = [p.cell for p in planned if not p.unsupported]
    failed = [cell for cell in supported if last.get(cell.key) is not Status.OK]
    for cell in failed:
        console.print(f"Not ok, as require_ok=true demands: {cell.describe()}", style="red")
    return 1 if failed else 0


def main(argv: list[str] | None = None) -> int:
    """The command."""
    return run_app("sweep", sweep, argv, after_jobs=print_all_jobs)


if __name__ == "__main__":
    sys.exit(main())
