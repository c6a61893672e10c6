"""Train each arm of a comparison at a learning rate that was searched for it alone.

The search takes the first seed and validation examples, and the next seed where every run is
stuck; the other seeds follow at the best rate. Controls are trained at the rate of the task's YAML:
they have nothing to learn.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile

from bench.core.cell import Cell
from bench.core.grid import GRIDS, MAX_WIDENINGS, Trained, found_nothing
from bench.core.observed import CONTROLS
from bench.core.record import Quality, Record
from bench.studies.rates.rows import TaskRow, Train, best, longer, trained, widened

MORE_STEPS = 4
"""Factor on the comparison's steps, for an arm that learned nothing at any rate."""


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
    all_rows = [TaskRow(cell=cell, rates=tuple(grid)) for cell in cells]
    rows = {row.name: row for row in all_rows if row.cell.mechanism not in CONTROLS}
    controls = [row for row in all_rows if row.cell.mechanism in CONTROLS]
    records: dict[str, Record] = {}
    left = [*rows.values()]
    for seed in seeds:
        left = _searched_with(seed, left, train, records)
        rows |= {row.name: row for row in left}
        left = [row for row in left if found_nothing(searched(row, seed, records).values())]
        if not left:
            break
    chosen = {name: _chosen(row, seeds, records) for name, row in rows.items()}
    chosen |= {row.name: row.shared_rate for row in controls}
    wanted = [
        row.searched_at(chosen[name], seed)
        for name, row in rows.items()
        for seed in seeds
        if seed != seeds[0] or chosen[name] in row.rates  # no run of the first one had a score
    ]
    wanted += [row.at(chosen[row.name], seed) for row in controls for seed in seeds]
    records |= train([cell for cell in wanted if cell.key not in records])
    wide = rows | {row.name: row for row in controls}
    arms = {
        name: _arm(wide[name], chosen[name], seeds, records, is_control=wide[name] in controls)
        for name in (row.name for row in all_rows)
    }
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


def _chosen(row: TaskRow, seeds: Sequence[int], records: Mapping[str, Record]) -> float:
    """The best rate; that of the task's YAML where no run had a score."""
    runs, _ = search_of(row, seeds, records)
    rate = best(row, runs).rate
    return row.shared_rate if rate is None else rate


def _arm(
    row: TaskRow,
    rate: float,
    seeds: Sequence[int],
    records: Mapping[str, Record],
    *,
    is_control: bool,
) -> Arm:
    search, caveat = ({}, "") if is_control else search_of(row, seeds, records)
    ended = {seed: records.get(row.at(rate, seed).key) for seed in seeds}
    return Arm(
        row=row,
        name=row.cell.entry,
        rate=rate,
        tried=tuple((r, run.score) for r, run in sorted(search.items())),
        caveat=caveat,
        is_at_edge=bool(search) and best(row, search).beyond is not None,
        runs={s: r.result for s, r in ended.items() if r and isinstance(r.result, Quality)},
        seeds=tuple(seeds),
        num_steps=int(row.cell.task.settings["num_steps"]),
    )
