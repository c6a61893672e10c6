"""`python -m bench.sweep`: measure every cell that was asked for, and publish the table."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from rich.console import Console

from bench.app.command import check_writable, run_app
from bench.app.progress import SweepProgress
from bench.cell import Cell
from bench.config import SweepConfig, read_sweep_config
from bench.costs.estimate import expected_s
from bench.machine import environment
from bench.machine.calibration import read_calibration, with_calibration
from bench.machine.environment import Environment, freshness
from bench.measure.clock import now_s
from bench.plan import PlannedCell, plan, reference_cell
from bench.publish import print_files, print_leaderboard, publish, read_publish_config
from bench.publish.format import format_duration, quantity
from bench.record import Record, Speed, Status
from bench.run import Runner, is_measured
from bench.shapes import left_out
from bench.sharing.claims import Claims
from bench.sharing.work import SharedWork
from bench.store import Store, Tail, read_records
from bench.worker.jobs import Interrupt, Interrupted, Jobs
from bench.worker.launch import WorkerServer


def sweep(composed: dict[str, Any]) -> int:
    """Measure what is missing here, append each record at once, then write all tables."""
    started = now_s()
    console = Console()
    config = read_sweep_config(composed)
    publishing = read_publish_config(composed)
    check_writable(config.out)
    with WorkerServer(config.run.allocator) as server:
        planned = plan(config, server)
        present = environment.available_devices()  # a dry run plans for others as well
        devices = tuple(d for d in dict.fromkeys(p.cell.device for p in planned) if d in present)
        here = environment.current(devices, config.run.allocator, server.environment())
        here = replace(here, calibration=read_calibration(config.out, here.to_dict()))
        tail = Tail(config.out)
        kept = () if config.force else read_records(config.out, missing_ok=True)
        todo = missing(planned, kept, here, config)
        if config.dry_run:
            print_plan(console, planned, todo, config)
            print_left_out(console, config)
            return 0
        sweep_id = composed["sweep_id"]
        done = measure(config, todo, here, server, sweep_id, console, tail=tail)

    records = with_calibration(read_records(config.out, missing_ok=True), config.out)
    published = publish(records, publishing, sweep=sweep_id)
    print_leaderboard(of_plan(records, planned), publishing, console)
    console.print()
    print_files(published.files, published.notes, console)
    print_left_out(console, config)
    print_ending(console, planned, done, now_s() - started)
    if done.is_interrupted:
        left = len(todo) - len(done.new) - len(done.of_others)
        console.print(f"Stopped; {left} cells are left. The same command goes on from here.")
        return 130
    return verdict(console, config, planned, records)


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
        print_leaderboard(of_plan(records, planned), publishing, console)


@dataclass(kw_only=True)
class Done:
    """What came of the cells that were to be measured.

    Attributes:
        new: records made here.
        of_others: records that other sweeps made of them meanwhile, into the same store.
        busy_s: wall time spent inside measured calls.
        is_interrupted: whether it ended early.
    """

    new: list[Record] = field(default_factory=list)
    of_others: list[Record] = field(default_factory=list)
    busy_s: float = 0.0
    is_interrupted: bool = False


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
    with (
        until or Interrupt() as interrupt,
        Claims(config.out) as claims,
        SweepProgress(console, expected) as progress,
    ):

        def tell(record: Record) -> None:
            done.of_others.append(record)
            progress.finish(record, "by another sweep")

        def settles(record: Record, cell: Cell) -> bool:
            return _is_of(record, cell, here, config)

        jobs = Jobs(server, config.run.timeout_s, interrupt)
        work = SharedWork(claims, tail, settles, [p.cell for p in todo], tell)
        try:
            for record in Runner(config, here, jobs, progress, sweep_id, work).run(todo):
                store.append(record)
                work.finished(record)
                done.new.append(record)
                progress.finish(record)
        except Interrupted:
            done.is_interrupted = True
        done.busy_s = jobs.busy_s
        return done


def of_plan(records: Sequence[Record], planned: Sequence[PlannedCell]) -> list[Record]:
    """The records of this plan's cells: what a person who ran it wants to see."""
    keys = {p.cell.key for p in planned}
    return [record for record in records if record.cell.key in keys]


def missing(
    planned: Sequence[PlannedCell],
    kept: Sequence[Record],
    here: Environment,
    config: SweepConfig | None = None,
) -> list[PlannedCell]:
    """The planned cells that have no settled record made with the same things as are here now.

    Beside another reference than was asked for a cell is timed again.
    """
    settled = {
        (r.cell.key, r.freshness): r for r in sorted(kept, key=lambda r: r.started_at)
    }  # fmt: skip
    todo = []
    for p in planned:
        record = settled.get((p.cell.key, freshness(p.cell, here)))
        if record is None or not is_measured(record) or not _is_of(record, p.cell, here, config):
            todo.append(p)
        elif record.status is Status.SKIPPED and record.reason != p.unsupported:
            todo.append(p)  # what stood in the way, such as too little memory, may have gone
    return todo


def _is_of(record: Record, cell: Cell, here: Environment, config: SweepConfig | None) -> bool:
    """Whether a record is one of this cell as it would be measured now, beside its reference."""
    if record.freshness != freshness(cell, here):
        return False
    if not isinstance(record.result, Speed):
        return True
    reference = reference_cell(cell, config)
    return (record.result.reference, record.result.reference_key) == (
        reference.entry,
        reference.key,
    )


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
    planned: tuple[PlannedCell, ...],
    records: Sequence[Record],
) -> int:
    """1 if every supported cell had to be ok and one is not."""
    if not config.require_ok:
        return 0
    last = {r.cell.key: r for r in sorted(records, key=lambda r: r.started_at)}
    failed = [p.cell for p in planned if not p.unsupported and not _is_ok(last, p.cell)]
    for cell in failed:
        console.print(f"Not ok, as require_ok=true demands: {cell.describe()}", style="red")
    return 1 if failed else 0


def _is_ok(last: dict[str, Record], cell: Cell) -> bool:
    return cell.key in last and last[cell.key].status is Status.OK


def main(argv: list[str] | None = None) -> int:
    """The command."""
    return run_app("sweep", sweep, argv, after_jobs=print_all_jobs)


if __name__ == "__main__":
    sys.exit(main())
