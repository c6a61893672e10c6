"""The best table of tasks that a time buys: rates and seeds of all rows race for it.

    attnbench race budget=10m [KEY=VALUE of bench.sweep ...]

Successive halving. First each row is trained once, at its searched rate if it has one, else at the
shared one; rows without a searched rate then at the rest of the grid; the better half of their
rates, by validation examples, go on to a second seed, and the best one to more, as each row does
until it has 5. Records lie under `out`, results/race by itself: with a later call, and a larger
budget, all goes on from there.
"""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from bench.core.cell import Cell
from bench.core.cli.files import check_writable
from bench.core.clock import now_s
from bench.core.format import format_duration, quantity
from bench.core.grid import GRIDS, Trained
from bench.core.record import Record, Status
from bench.core.settings import Budget, Field, Settings
from bench.core.store import read_records
from bench.measuring.config import SweepConfig, read_sweep_config
from bench.measuring.costs.estimate import expected_s
from bench.measuring.device import available_devices
from bench.measuring.machine.environment import Environment
from bench.measuring.plan import PlannedCell
from bench.measuring.tasks.base import task_class
from bench.measuring.worker.jobs import Deadline
from bench.publishing.config import read_publish_config
from bench.publishing.publish import publish
from bench.publishing.terminal import print_files, print_leaderboard
from bench.studies.rates.rows import TaskRow, fresh, run_command, trainable, trained
from bench.studies.session import STOPPED, Session

NUM_SEEDS = 5
"""Number of seeds of a row, as many as a leaderboard needs."""
SEEDS = tuple(range(NUM_SEEDS))

RateAndSeed = tuple[float, int]
"""A rate and a seed of a row."""


class Own(Settings):
    """Keys beside those of a sweep."""

    budget: Budget = Field(default=600.0, validate_default=False)


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    return run_command(argv, str(__doc__), Own.model_fields, {"out": "results/race"}, race)


def race(composed: dict[str, Any], own: Mapping[str, str]) -> int:
    """Train until the time is over or every row has its seeds, then publish the table."""
    budget_s = Own.read(own).budget
    ends_s = now_s() + budget_s
    config, publishing = read_sweep_config(composed), read_publish_config(composed)
    check_writable(config.out)
    was_stopped = False
    with Session("rates.race", composed) as session:
        rows = [_row(cell) for cell in trainable(config, session)]
        if config.dry_run:
            session.say(f"{quantity(len(rows), 'row')}; nothing was trained.")
            return 0
        here = session.here(config, available_devices())
        while not was_stopped:
            records = read_records(config.out, missing_ok=True)
            left_s = ends_s - now_s()
            cells = [*affordable(next_cells(rows, records, here), records, left_s, config, here)]
            if not cells:
                break
            left = format_duration(max(ends_s - now_s(), 0.0))
            session.say(f"{quantity(len(cells), 'run')}; {left} of the budget are left.")
            until = Deadline(ends_s)
            planned = [PlannedCell(cell=cell) for cell in cells]
            trained_now = session.train(config, planned, until=until)
            was_stopped = trained_now.is_interrupted and not until.is_over
    records = read_records(config.out, missing_ok=True)
    shown = list(table_records(rows, records, here))
    published = publish(shown, publishing, sweep=session.sweep_id)
    print_leaderboard(published.board, publishing, session.console)
    session.say("")
    print_files(published.files, published.notes, session.console)
    for line in left_out(rows, records, here):
        session.say(line)
    session.say(f"The budget was {format_duration(budget_s)}.")
    if was_stopped:
        session.say("Stopped. The same command goes on from here.")
    return STOPPED if was_stopped else 0


def _row(cell: Cell) -> TaskRow:
    """A row at its searched rate alone if it has one, else at the shared rate and the grid's.

    The rates of the grid come nearest first.
    """
    own = float(cell.task.settings["learning_rate"])
    if cell.task.shared_rate is not None:
        return TaskRow(cell=cell, rates=(own,))
    others = [rate for rate in GRIDS["usual"] if rate != own]
    return TaskRow(
        cell=cell, rates=(own, *sorted(others, key=lambda rate: abs(math.log(rate / own))))
    )


def _through(
    row: TaskRow, records: Sequence[Record], here: Environment
) -> dict[RateAndSeed, Record]:
    """The finished runs of a row, by rate and seed."""
    newest = fresh(records, row.cell, here)
    places = {(rate, seed): row.at(rate, seed).key for rate in row.rates for seed in SEEDS}
    return {place: newest[key] for place, key in places.items() if key in newest}


def next_cells(rows: Sequence[TaskRow], records: Sequence[Record], here: Environment) -> list[Cell]:
    """The next cells of all rows that are of the earliest stage.

    The first cell of every row comes before the second of any, so that time which ends within a
    stage has not gone to the first rows alone.
    """
    wanted = [
        (stage, number, row.at(*place, shared_rate=row.shared_rate))
        for row in rows
        for number, (stage, place) in enumerate(next_runs(row, _ends(_through(row, records, here))))
    ]
    first = min((stage for stage, *_ in wanted), default=0)
    now = [(number, cell) for stage, number, cell in wanted if stage == first]
    return [cell for _, cell in sorted(now, key=lambda pair: pair[0])]


def _ends(runs: Mapping[RateAndSeed, Record]) -> dict[RateAndSeed, Trained]:
    return {place: trained(record) for place, record in runs.items()}


def next_runs(row: TaskRow, runs: Mapping[RateAndSeed, Trained]) -> list[tuple[int, RateAndSeed]]:
    """Next runs of a row, each with its stage.

    Stages: 0 the first rate, 1 the others, 2 a second seed of the better half, then more seeds.
    """
    at_first = [(int(number > 0), (rate, 0)) for number, rate in enumerate(row.rates)]
    if left := [(stage, place) for stage, place in at_first if place not in runs]:
        return left
    one_seed = {place: run for place, run in runs.items() if place[1] == 0}
    half = leading(row, one_seed)[: max(len(row.rates) // 2, 1)]
    if left := [(2, (rate, 1)) for rate in half if (rate, 1) not in runs]:
        return left
    best = leading(row, runs)[0]
    return [(1 + seed, (best, seed)) for seed in SEEDS[2:] if (best, seed) not in runs]


def leading(row: TaskRow, runs: Mapping[RateAndSeed, Trained]) -> list[float]:
    """The rates with the most seeds, the best first by their mean score on validation examples."""
    seeds = Counter(rate for rate, _ in runs)
    sign = 1 if task_class(row.cell.task.task).better == "higher" else -1

    def loss(rate: float) -> tuple[float, float]:
        """Sort key, smaller is better; a run without a score is worse than any."""
        own = [run for (at, _), run in runs.items() if at == rate]
        scores = [-math.inf if r.score is None else sign * r.score for r in own]
        return -sum(scores) / len(own), sum(r.steps_to_90 or math.inf for r in own)

    return sorted((rate for rate in seeds if seeds[rate] == max(seeds.values())), key=loss)


def affordable(
    cells: Sequence[Cell],
    records: Sequence[Record],
    left_s: float,
    config: SweepConfig,
    here: Environment,
) -> Iterator[Cell]:
    """Cells that should end in `left_s` seconds, by the mean cost of their row's earlier runs."""
    took: dict[tuple[str, str], list[float]] = {}
    for record in records:
        if record.cell.is_task and record.status is Status.OK:
            took.setdefault((record.cell.entry, record.cell.task.label), []).append(
                record.cost_s.get("total", 0.0)
            )
    num_at_once = max(here.num_cores // config.axes.num_threads[0], 1)
    sum_s = 0.0
    for cell in cells:
        own = took.get((cell.entry, cell.task.label))
        cost_s = sum(own) / len(own) if own else expected_s(cell, config.measure)
        if cost_s <= left_s and sum_s + cost_s <= left_s * num_at_once:
            sum_s += cost_s
            yield cell


def table_records(
    rows: Sequence[TaskRow], records: Sequence[Record], here: Environment
) -> Iterator[Record]:
    """Each row's runs at its best rate, which counts as searched if there were others."""
    for row in rows:
        runs = _through(row, records, here)
        if not runs:
            continue
        best, tried = leading(row, _ends(runs))[0], {rate for rate, _ in runs}
        is_searched = row.cell.task.shared_rate is not None or len(tried) > 1
        label = row.shared_rate if is_searched else None
        is_at_edge = row.cell.task.is_at_edge
        if len(tried) > 1:
            is_at_edge = best in (min(tried), max(tried))
        for (rate, _), record in runs.items():
            if rate == best:
                work = replace(record.cell.task, shared_rate=label, is_at_edge=is_at_edge)
                yield replace(record, cell=replace(record.cell, workload=work))


def left_out(
    rows: Sequence[TaskRow], records: Sequence[Record], here: Environment
) -> Iterator[str]:
    """Sentences on rows, rates and seeds for which there was not enough time."""
    through = [(row, _through(row, records, here)) for row in rows]
    if never := [row.name for row, runs in through if not runs]:
        yield f"Left out: {', '.join(never)}."
    for row, runs in through:
        rates = [f"{rate:g}" for rate in row.rates if (rate, 0) not in runs]
        if runs and rates:
            yield f"Left out: {row.name} at {', '.join(rates)}; its best rate may be one of these."
    few = []
    for row, runs in through:
        best = leading(row, _ends(runs))[0] if runs else None
        num_seeds = sum(rate == best for rate, _ in runs)
        if 0 < num_seeds < NUM_SEEDS:
            few.append(f"{row.name} {num_seeds}")
    if few:
        yield f"Fewer than {NUM_SEEDS} seeds: {', '.join(few)}."


if __name__ == "__main__":
    sys.exit(main())
