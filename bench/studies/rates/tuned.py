"""Train each arm of a comparison at a learning rate that was searched for it alone.

The search takes the first seed and validation examples, and the next seed where every run is
stuck; the other seeds follow at the best rate. Controls are trained at the rate of the task's YAML:
they have nothing to learn.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import takewhile

from bench.core.cell import Cell
from bench.core.clock import now_s
from bench.core.grid import GRIDS, MAX_WIDENINGS, Best, Trained, best_of, found_nothing
from bench.core.observed import CONTROLS
from bench.core.record import Quality, Record
from bench.measuring.config import SweepConfig
from bench.measuring.plan import PlannedCell
from bench.measuring.tasks.base import task_class
from bench.measuring.worker.jobs import Deadline
from bench.publishing.searched import trained
from bench.studies.session import Session, Stopped

MORE_STEPS = 4
"""Factor on the comparison's steps, for an arm that learned nothing at any rate."""


@dataclass(frozen=True, kw_only=True)
class TaskRow:
    """A row on a task, with the rates to train it at, the one to begin with first.

    Attributes:
        cell: as a sweep would plan it, with the first of its seeds.
    """

    cell: Cell
    rates: tuple[float, ...]

    @property
    def name(self) -> str:
        """As ``nala on recall``."""
        return f"{self.cell.entry} on {self.cell.task.label}"

    @property
    def is_control(self) -> bool:
        """True for a control, for which no rate is searched."""
        return self.cell.mechanism in CONTROLS

    @property
    def shared_rate(self) -> float:
        """Rate of rows without a rate of their own."""
        return float(self.cell.task.shared_settings["learning_rate"])

    def at(self, rate: float, seed: int = 0, *, shared_rate: float | None = None) -> Cell:
        """The same run at another rate, with another seed.

        Args:
            rate: the learning rate.
            seed: of all randomness.
            shared_rate: see `bench.core.cell.TaskWorkload`.
        """
        work = self.cell.task
        settings = work.settings | {"learning_rate": rate}
        work = replace(work, settings=settings, seed=seed, shared_rate=shared_rate)
        return replace(self.cell, workload=work)

    def searched_at(self, rate: float, seed: int) -> Cell:
        """A run of a search, whose cell also records the rate of rows without a search."""
        return self.at(rate, seed, shared_rate=self.shared_rate)

    def runs(self, seed: int) -> list[Cell]:
        """The runs of a search with one seed, by rising rate."""
        return [self.searched_at(rate, seed) for rate in self.rates]


def longer(cell: Cell, factor: int) -> Cell:
    """The same run with so many times the steps."""
    work = cell.task
    steps = {"num_steps": factor * int(work.settings["num_steps"])}
    return replace(cell, workload=replace(work, settings=work.settings | steps))


Train = Callable[[Sequence[Cell]], Mapping[str, Record]]
"""Trains cells that are not stored yet; returns the newest good record of each, by key."""


@contextmanager
def trainer(
    config: SweepConfig,
    session: Session,
    within_s: float | None = None,
    found: dict[str, Record] | None = None,
) -> Iterator[Train]:
    """Give a block a function that trains cells; Ctrl-C or the end of the time leaves the block.

    Args:
        config: settings of the training runs, and the store.
        session: of the command.
        within_s: from now, in seconds; None for no end.
        found: gets the records of all cells, also of a training that Ctrl-C or the end stops.
    """
    until = Deadline(math.inf if within_s is None else now_s() + within_s)

    def train(cells: Sequence[Cell]) -> Mapping[str, Record]:
        done = session.train(config, [PlannedCell(cell=cell) for cell in cells], until=until)
        if found is not None:
            found.update(done.by_key)
        if done.is_interrupted:
            raise Stopped
        return done.by_key

    try:
        yield train
    except Stopped:
        why = "The time is over." if until.is_over else "Stopped."
        session.say(f"{why} The same command goes on from here.")
    session.is_stopped &= not until.is_over


def trainable(config: SweepConfig, session: Session) -> list[Cell]:
    """A cell for each row and task that can be trained, planned as a sweep plans it.

    Rows that cannot be are printed, with the reason.
    """
    planned = session.plan(config.but(axes=config.axes.but(seq_len=(), seed=(0,))))
    for one in planned:
        if one.unsupported is not None:
            session.say(f"{one.cell.entry} is left out on {one.cell.task.label}: {one.unsupported}")
    return [p.cell for p in planned if p.unsupported is None]


def best(row: TaskRow, runs: Mapping[float, Trained]) -> Best:
    """The best rate of a row, by the validation scores of its runs."""
    return best_of(runs, better=task_class(row.cell.task.task).better)


def widened(row: TaskRow, runs: Mapping[float, Trained]) -> TaskRow:
    """The row with one more rate, if all its rates are trained and the best lies at their edge."""
    if len(runs) < len(row.rates) or (beyond := best(row, runs).beyond) is None:
        return row
    return replace(row, rates=tuple(sorted({*row.rates, beyond})))


# --- arms ----------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Arm:
    """A row of a comparison with the runs that it rests on.

    Attributes:
        row: the planned row with all rates that were tried; those of a control are not used.
        name: the entry's label.
        rate: the learning rate of its runs.
        tried: rate and validation score of the search, by rising rate; empty for a control.
        is_at_edge: whether a lower or higher rate than all that were tried may be better.
        runs: the result of each seed at that rate; a seed whose run ended without one is missing.
        seeds: the requested seeds.
        num_steps: largest number of steps of a run.
        beyond: results at `MORE_STEPS` times the steps by rate, with the first seed, where all
            seeds at all rates were stuck; empty otherwise.
        caveat: how a search that found nothing with its first seed went on; else empty.
    """

    row: TaskRow
    name: str
    rate: float
    tried: tuple[tuple[float, float | None], ...]
    is_at_edge: bool
    runs: Mapping[int, Quality]
    seeds: tuple[int, ...]
    num_steps: int
    beyond: Mapping[float, Quality] = field(default_factory=dict)
    caveat: str = ""

    @property
    def is_control(self) -> bool:
        """True for a control, for which no rate is searched."""
        return not self.tried

    @property
    def is_tuned(self) -> bool:
        """True for a control, and if the searched rate is not at the edge of those tried."""
        return self.is_control or not self.is_at_edge

    @property
    def scores(self) -> list[float]:
        """Test scores in the order of the seeds, of those that have one."""
        return [self.runs[seed].accuracy for seed in self.seeds if seed in self.runs]

    @property
    def stuck(self) -> dict[int, str]:
        """The level at which training ended, by seed, for those that are stuck."""
        return {seed: run.stuck_at for seed, run in self.runs.items() if run.stuck_at}

    def changed(self, seed: int, label: str, **settings: object) -> Cell:
        """A run at its rate with further settings of the task, under a label of its own."""
        work = self.row.cell.task
        work = replace(
            work, label=label, settings=work.settings | settings, is_at_edge=self.is_at_edge
        )
        row = replace(self.row, cell=replace(self.row.cell, workload=work))
        return row.searched_at(self.rate, seed)

    @property
    def not_learned(self) -> str:
        """``not learned within S steps at rates R``, where that was found; else empty."""
        if not self.beyond or not all(run.stuck_at for run in self.beyond.values()):
            return ""
        rates = ", ".join(f"{rate:g}" for rate in sorted(self.beyond))
        return f"not learned within {MORE_STEPS * self.num_steps:,} steps at rates {rates}"


def tuned(
    cells: Iterable[Cell],
    seeds: Sequence[int],
    train: Train,
    *,
    grid: Sequence[float] = GRIDS["usual"],
    looks_further: bool = True,
) -> dict[str, Arm]:
    """Search a rate for each cell's row, train its seeds, and look further at what is stuck.

    Args:
        cells: one of each row of one task, at the task's own rate.
        seeds: of each row; the first is that of the search.
        train: trains cells.
        grid: rates to begin with; it is widened where the best lies at its edge.
        looks_further: whether rows that are stuck in all seeds at all rates are trained for
            `MORE_STEPS` times the steps.

    Returns:
        The arms by their entry.
    """
    rows = {row.name: row for row in (TaskRow(cell=c, rates=tuple(grid)) for c in cells)}
    records: dict[str, Record] = {}
    left = [row for row in rows.values() if not row.is_control]
    for seed in seeds:
        left = _searched_with(seed, left, train, records)
        rows |= {row.name: row for row in left}
        left = [row for row in left if found_nothing(searched(row, seed, records).values())]
        if not left:
            break
    arms = {name: _arm(row, seeds, records) for name, row in rows.items()}
    wanted = [
        arm.row.searched_at(arm.rate, seed)
        for arm in arms.values()
        for seed in seeds
        # Without its rate among these, no run of the first seed had a score.
        if not arm.row.is_control and (seed != seeds[0] or arm.rate in arm.row.rates)
    ]
    wanted += [a.row.at(a.rate, seed) for a in arms.values() if a.row.is_control for seed in seeds]
    records |= train([cell for cell in wanted if cell.key not in records])
    arms = {name: _arm(row, seeds, records) for name, row in rows.items()}
    if looks_further and left:
        arms |= _followed_up(left, seeds[0], arms, train)
    return {arm.name: arm for arm in arms.values()}


def _searched_with(
    seed: int, rows: Sequence[TaskRow], train: Train, records: dict[str, Record]
) -> list[TaskRow]:
    """The rows with their grids as wide as their searches became; their runs enter `records`."""
    wide = [*rows]
    for turn in range(1 + MAX_WIDENINGS):
        records |= train([cell for row in wide for cell in row.runs(seed)])
        wider = [widened(row, searched(row, seed, records)) for row in wide]
        if wider == wide or turn == MAX_WIDENINGS:  # nothing would train one more rate
            break
        wide = wider
    return wide


def _followed_up(
    rows: Sequence[TaskRow], seed: int, arms: Mapping[str, Arm], train: Train
) -> dict[str, Arm]:
    """Arms of rows that are stuck at all rates and seeds, with their results after more steps."""
    more = {
        row.name: {r: longer(row.searched_at(r, seed), MORE_STEPS) for r in row.rates}
        for row in rows
    }
    ended = train([cell for cells in more.values() for cell in cells.values()])
    results = {key: record.result for key, record in ended.items()}
    return {
        name: replace(
            arms[name],
            beyond={
                rate: result
                for rate, cell in cells.items()
                if isinstance(result := results.get(cell.key), Quality)
            },
        )
        for name, cells in more.items()
    }


def searched(row: TaskRow, seed: int, records: Mapping[str, Record]) -> dict[float, Trained]:
    """Scores of a row's runs with one seed, by rate, as far as they exist."""
    keys = {rate: row.at(rate, seed).key for rate in row.rates}
    return {rate: trained(records[key]) for rate, key in keys.items() if key in records}


def search_of(
    row: TaskRow, seeds: Sequence[int], records: Mapping[str, Record]
) -> tuple[dict[float, Trained], str]:
    """Runs that the rate of a row is chosen by, and what must be said of the choice, if anything.

    They are those of the first seed with a run that is not stuck, else of the first seed.
    """
    searches = [searched(row, seed, records) for seed in seeds]
    num_lost = len([*takewhile(lambda runs: found_nothing(runs.values()), searches)])
    if not num_lost:
        return searches[0], ""
    lost = f"every run was stuck with {'seeds' if num_lost > 1 else 'seed'} "
    lost += ", ".join(map(str, seeds[:num_lost]))
    if num_lost < len(seeds) and len(searches[num_lost]) == len(row.rates):
        return searches[num_lost], f"searched with seed {seeds[num_lost]}, since {lost}"
    return searches[0], f"nothing found: {lost}"


def _arm(row: TaskRow, seeds: Sequence[int], records: Mapping[str, Record]) -> Arm:
    """An arm at its best rate, or at that of the task's YAML where no run had a score."""
    search, caveat = ({}, "") if row.is_control else search_of(row, seeds, records)
    found = best(row, search)
    rate = row.shared_rate if found.rate is None else found.rate
    ended = {seed: records.get(row.at(rate, seed).key) for seed in seeds}
    return Arm(
        row=row,
        name=row.cell.entry,
        rate=rate,
        tried=tuple((r, run.score) for r, run in sorted(search.items())),
        caveat=caveat,
        is_at_edge=found.beyond is not None,
        runs={s: r.result for s, r in ended.items() if r and isinstance(r.result, Quality)},
        seeds=tuple(seeds),
        num_steps=int(row.cell.task.settings["num_steps"]),
    )
