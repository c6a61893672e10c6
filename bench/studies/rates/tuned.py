"""Train each arm of a comparison at a learning rate that was searched for it alone.

The search takes the first seed and validation examples; the other seeds follow at the best rate.
Controls are trained at the rate of the task's YAML: they have nothing to learn.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from bench.core.cell import Cell
from bench.core.grid import GRIDS, MAX_WIDENINGS, Trained
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
        looks_further: whether rows that are stuck in all seeds are trained at all rates, and at
            `MORE_STEPS` times the steps.

    Returns:
        The arms by their entry.
    """
    all_rows = [TaskRow(cell=cell, rates=tuple(grid)) for cell in cells]
    rows = [row for row in all_rows if row.cell.mechanism not in CONTROLS]
    controls = [row for row in all_rows if row.cell.mechanism in CONTROLS]
    first, *others = seeds
    for turn in range(1 + MAX_WIDENINGS):
        records = train([cell for row in rows for cell in row.runs(first)])
        wider = [widened(row, searched(row, first, records)) for row in rows]
        if wider == rows or turn == MAX_WIDENINGS:  # nothing would train one more rate
            break
        rows = wider
    chosen = {row.name: _chosen(row, first, records) for row in rows}
    chosen |= {row.name: row.shared_rate for row in controls}
    wanted = [row.searched_at(chosen[row.name], seed) for row in rows for seed in others]
    wanted += [row.at(chosen[row.name], seed) for row in controls for seed in seeds]
    records = {**records, **train(wanted)}
    wide = {row.name: row for row in (*rows, *controls)}
    arms = {
        name: _arm(wide[name], chosen[name], seeds, records, is_control=wide[name] in controls)
        for name in (row.name for row in all_rows)
    }
    unlearned = [r for r in rows if len(arms[r.name].stuck) == len(arms[r.name].runs) > 0]
    if looks_further and unlearned:
        arms |= _followed_up(unlearned, seeds, arms, train)
    return {arm.name: arm for arm in arms.values()}


def _followed_up(
    rows: Sequence[TaskRow], seeds: Sequence[int], arms: Mapping[str, Arm], train: Train
) -> dict[str, Arm]:
    """Arms of rows that are stuck at all rates and seeds, with their results after more steps."""
    everywhere = [cell for row in rows for seed in seeds for cell in row.runs(seed)]
    records = train(everywhere)
    found: dict[str, Arm] = {}
    for row in rows:
        keys = [row.at(rate, seed).key for rate in row.rates for seed in seeds]
        results = [records[key].result for key in keys if key in records]
        if all(isinstance(result, Quality) and result.stuck_at for result in results):
            more = {r: longer(row.searched_at(r, seeds[0]), MORE_STEPS) for r in row.rates}
            ended = train(list(more.values()))
            beyond = {
                rate: record.result
                for rate, cell in more.items()
                if (record := ended.get(cell.key)) and isinstance(record.result, Quality)
            }
            found[row.name] = replace(arms[row.name], beyond=beyond)
    return found


def searched(row: TaskRow, seed: int, records: Mapping[str, Record]) -> dict[float, Trained]:
    """Scores of a row's runs with one seed, by rate, as far as they exist."""
    keys = {rate: row.at(rate, seed).key for rate in row.rates}
    return {rate: trained(records[key]) for rate, key in keys.items() if key in records}


def _chosen(row: TaskRow, seed: int, records: Mapping[str, Record]) -> float:
    """The best rate; that of the task's YAML where no run had a score."""
    rate = best(row, searched(row, seed, records)).rate
    return row.shared_rate if rate is None else rate


def _arm(
    row: TaskRow,
    rate: float,
    seeds: Sequence[int],
    records: Mapping[str, Record],
    *,
    is_control: bool,
) -> Arm:
    search = {} if is_control else searched(row, seeds[0], records)
    ended = {seed: records.get(row.at(rate, seed).key) for seed in seeds}
    return Arm(
        row=row,
        name=row.cell.entry,
        rate=rate,
        tried=tuple((r, run.score) for r, run in sorted(search.items())),
        is_at_edge=bool(search) and best(row, search).beyond is not None,
        runs={s: r.result for s, r in ended.items() if r and isinstance(r.result, Quality)},
        seeds=tuple(seeds),
        num_steps=int(row.cell.task.settings["num_steps"]),
    )
