"""`attnbench sweep`: measure every cell that was asked for, and publish the table.

What needs torch is imported late, while the server of the workers, launched before, loads it too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from bench.core.calibration import read_calibration, with_calibration
from bench.core.cli.command import run_app
from bench.core.cli.errors import check_known
from bench.core.cli.files import check_writable
from bench.core.clock import now_s
from bench.core.format import format_duration, quantity
from bench.core.proofs import with_verified
from bench.core.record import Record, Status
from bench.core.store import Tail, read_records
from bench.measuring.config import SweepConfig, read_sweep_config
from bench.measuring.device import available_devices
from bench.measuring.machine import environment
from bench.measuring.worker.jobs import Deadline
from bench.measuring.worker.launch import WorkerServer
from bench.publishing.config import PublishConfig, read_publish_config
from bench.publishing.leaderboard import Leaderboard, build_leaderboard
from bench.publishing.publish import publish
from bench.publishing.sinks import load_dashboard
from bench.publishing.terminal import print_files, print_leaderboard

if TYPE_CHECKING:
    from bench.measuring.engine import Done
    from bench.measuring.plan import PlannedCell

TORCH = "import torch"
TABLES_S = 6.0
"""Part of a budget in which tables and charts are written."""


class Timings:
    """Names and ends of a command's stages, each of which begins when the one before has ended.

    Takes the times, by `now_s`, at which the process and the composition of its configuration
    began.
    """

    def __init__(self, began_s: float, composes_s: float) -> None:
        self._began_s = began_s
        self._ends = [("interpreter", composes_s)]
        self.end("compose")

    def end(self, stage: str, at_s: float | None = None) -> None:
        """End a stage now, or at a given time."""
        self._ends.append((stage, now_s() if at_s is None else at_s))

    def stages(self) -> Iterator[tuple[str, float]]:
        """Each stage with its seconds."""
        began_s = self._began_s
        for stage, end_s in self._ends:
            yield stage, end_s - began_s
            began_s = end_s

    def lines(self, unit: str) -> Iterator[str]:
        """A line for each stage and for the sum, in seconds and as multiples of one stage."""
        stages = list(self.stages())
        unit_s = dict(stages).get(unit, 0.0)
        stages.append(("all", sum(seconds for _, seconds in stages)))
        width = max(len(stage) for stage, _ in stages)
        for stage, seconds in stages:
            times = f"{seconds / unit_s:6.2f} x {unit}" if unit_s else ""
            yield f"{stage:<{width}} {seconds:7.2f} s {times}".rstrip()

    def print(self, console: Console, unit: str) -> None:
        """Print `lines`, with a heading."""
        console.print("\nWall time, stage after stage:", highlight=False)
        for line in self.lines(unit):
            console.print(f"  {line}", highlight=False)


def sweep(composed: dict[str, Any]) -> int:
    """Measure what is missing here, append each record at once, then write all tables."""
    started = composed["began_s"]
    timings = Timings(started, composed["composes_s"])
    console = Console(markup=False)
    config = read_sweep_config(composed)
    publishing = read_publish_config(composed)
    check_writable(config.out)
    with WorkerServer(config.run.allocator) as server:
        if not (config.dry_run or config.plugins):  # a plugin may change what workers start with
            server.launch()
        timings.end("settings")
        import_module("torch")
        timings.end(TORCH)
        from bench.measuring.engine import measure, without
        from bench.measuring.plan import plan
        from bench.measuring.todo import missing, of_shard, only_these

        planned = of_shard(plan(config, server), config.shard)
        _refuse_unknown(publishing.controls)
        if not planned:
            console.print(f"No cell of the plan is in shard={config.shard}.", highlight=False)
            return 0
        present = available_devices()  # a dry run plans for others as well
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
        timings.end("plan")
        if todo:
            import_module("torch._dynamo")  # which the first operator on meta tensors would load
            load_dashboard(publishing)
            timings.end("import compiler and dashboard")
            server.start()
            timings.end("wait for the workers")
        sweep_id = composed["sweep_id"]
        until = None
        if budget_s := config.budget_s:  # the tables are written within it as well
            until = Deadline(started + budget_s - min(TABLES_S, budget_s / 4))
        done = measure(config, todo, here, server, sweep_id, console, until=until, tail=tail)
    timings.end("measure")

    records = _stored(config.out)
    published = publish(records, publishing, sweep=sweep_id, end=timings.end)
    print_leaderboard(_board_of(planned, records, publishing), publishing, console)
    console.print()
    print_files(published.files, published.notes, console)
    print_left_out(console, config)
    print_ending(console, planned, done, now_s() - started)
    timings.end("print")
    if config.timings:
        timings.print(console, unit=TORCH)
    if config.budget_s is not None:
        print_over_budget(console, done.left_out, config.budget_s)
    if done.is_interrupted and not (isinstance(until, Deadline) and until.is_over):
        left = len(done.left_out)
        said = f"{quantity(left, 'cell')} {'is' if left == 1 else 'are'} left"
        console.print(f"Stopped; {said}. The same command goes on from here.")
        return 130
    return verdict(console, config, without(planned, done.left_out), records, here)


def _refuse_unknown(controls: Sequence[str]) -> None:
    from attentions import attention_names

    known = attention_names()
    for name in controls:
        check_known(name, known, f"controls names {name!r}, and no mechanism is called that.")


def print_all_jobs(jobs: list[dict[str, Any]]) -> None:
    """Print the cells of a multirun's jobs as the one table that they make, folder by folder."""
    from bench.measuring.plan import plan

    console = Console(markup=False)
    for out in dict.fromkeys(job["out"] for job in jobs):
        mine = [job for job in jobs if job["out"] == out and not job["dry_run"]]
        if len(mine) < 2:
            continue
        with WorkerServer() as server:
            planned = [p for job in mine for p in plan(read_sweep_config(job), server)]
        publishing = read_publish_config(mine[-1])
        board = _board_of(planned, _stored(publishing.out), publishing)
        if board.num_cells:  # none where no job has a part in its shard
            console.print(f"\nAll {len(mine)} jobs:", style="bold", highlight=False)
            print_leaderboard(board, publishing, console)


def _stored(out: Path) -> list[Record]:
    """Records in `out`, with what is known there of their machines and of plugins."""
    return with_verified(with_calibration(read_records(out, missing_ok=True), out), out)


def _board_of(
    planned: Sequence[PlannedCell], records: Sequence[Record], publishing: PublishConfig
) -> Leaderboard:
    """The leaderboard of this plan's cells alone, which is what the sweep was run for."""
    keys = {p.cell.key for p in planned}
    return build_leaderboard((r for r in records if r.cell.key in keys), publishing.controls)


def print_plan(
    console: Console,
    planned: tuple[PlannedCell, ...],
    todo: list[PlannedCell],
    config: SweepConfig,
) -> None:
    """Every cell, whether it would run, and about how long all would take."""
    from bench.measuring.engine import expected_cost_s
    from bench.measuring.todo import affordable

    left = {id(p) for p in todo}
    rest = (
        f"not asked for by only={','.join(config.only)}" if config.only else "measured here already"
    )
    for p in planned:
        state = p.unsupported or ("" if id(p) in left else rest)
        line = f"{p.cell.key}  {p.cell.describe()}" + (f": {state}" if state else "")
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    runs = [p for p in todo if not p.unsupported]
    guess = format_duration(sum(expected_cost_s(p, config) for p in runs))
    num_unsupported = sum(bool(p.unsupported) for p in planned)
    num_others = len(planned) - len(runs) - num_unsupported
    console.print(
        f"{quantity(len(planned), 'cell')}: {len(runs)} to measure, {num_unsupported} "
        f"unsupported, {num_others} {rest}. "
        f"Estimated duration: about {guess}. Nothing was measured (dry_run=true)."
    )
    if config.budget_s is not None:
        first = affordable(runs, lambda p: expected_cost_s(p, config), config.budget_s)
        words = f"First in the budget of {format_duration(config.budget_s)}, by these estimates:"
        console.print(words, highlight=False)
        print_shapes(console, first)


def print_left_out(console: Console, config: SweepConfig) -> None:
    """Print combinations of axes that were skipped as meaningless."""
    from bench.measuring.plan import left_out

    for reason, count in left_out(config.axes).items():
        words = f"Not planned, {quantity(count, 'shape')}: {reason}"
        console.print(words, markup=False, highlight=False)


def print_over_budget(console: Console, left_out: Sequence[PlannedCell], budget_s: float) -> None:
    """Print the cells for which the budget was too short, shape by shape."""
    words = f"the budget of {format_duration(budget_s)}"
    if not left_out:
        console.print(f"Everything was measured within {words}.", highlight=False)
        return
    cells = quantity(len(left_out), "cell")
    console.print(
        f"Left out to keep {words}, {cells}; the same command goes on from here:", highlight=False
    )
    print_shapes(console, left_out)


def print_shapes(console: Console, cells: Sequence[PlannedCell]) -> None:
    """Print the number of cells of each shape."""
    shapes = Counter(p.cell.describe().partition(" ")[2] for p in cells)
    for shape, count in shapes.items():
        console.print(f"  {quantity(count, 'cell')} at {shape}", markup=False, highlight=False)


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
    here: environment.Environment,
) -> int:
    """1 if every supported cell had to be ok and one is not, by its newest record good here."""
    from bench.measuring.todo import by_key

    if not config.require_ok:
        return 0
    supported = [p.cell for p in planned if not p.unsupported]
    good = by_key(records, {cell.key: cell for cell in supported}, here)
    failed = [c for c in supported if c.key not in good or good[c.key][-1].status is not Status.OK]
    for cell in failed:
        console.print(f"Not ok, as require_ok=true demands: {cell.describe()}", style="red")
    return 1 if failed else 0


def main(argv: list[str] | None = None) -> int:
    """The command."""
    return run_app("sweep", sweep, argv, after_jobs=print_all_jobs)


if __name__ == "__main__":
    raise SystemExit(main())
