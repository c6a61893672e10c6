"""Choose which planned cells to measure, and in which order under a time budget."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict

from bench.core.cell import Cell
from bench.core.grouping import grouped
from bench.core.record import Record, Speed, Status
from bench.measuring.config import Shard, SweepConfig
from bench.measuring.machine.environment import Environment, is_good
from bench.measuring.plan import PlannedCell, reference_cell
from bench.measuring.run import is_measured


def of_shard(planned: Sequence[PlannedCell], shard: Shard | None) -> tuple[PlannedCell, ...]:
    """Cells of one shard of a plan; each cell is in exactly one shard.

    Cells of a block stay together; a training run is a unit by itself. Shards follow from the keys
    of the cells alone, so the same command gives the same shards on every machine.
    """
    if shard is None:
        return tuple(planned)
    units = [p.cell.key if p.cell.is_task else p.cell.block for p in planned]
    # Ordered by hash: in the plan's order one shard could get all blocks of the longest length.
    part = {unit: index % shard.count for index, unit in enumerate(sorted(set(units)))}
    return tuple(p for p, unit in zip(planned, units, strict=True) if part[unit] == shard.index - 1)


def missing(
    planned: Sequence[PlannedCell],
    kept: Sequence[Record],
    here: Environment,
    config: SweepConfig | None = None,
) -> list[PlannedCell]:
    """Planned cells without a settled record that is good here now, see `is_good`.

    A cell that was timed beside another reference than the configured one is timed again.
    """
    wanted = {p.cell.key: p.cell for p in planned}
    good = by_key(kept, wanted, here)
    todo = []
    for p in planned:
        record = good[p.cell.key][-1] if p.cell.key in good else None
        if record is None or not is_measured(record) or not _is_beside(record, p.cell, config):
            todo.append(p)
        elif record.status is Status.SKIPPED and record.reason != p.unsupported:
            todo.append(p)  # the reason, such as too little memory, may no longer hold
    return todo


def is_of(record: Record, cell: Cell, here: Environment, config: SweepConfig | None) -> bool:
    """Whether a record is good for this cell here now, and beside the configured reference."""
    return is_good(record, cell, here) and _is_beside(record, cell, config)


def _is_beside(record: Record, cell: Cell, config: SweepConfig | None) -> bool:
    """Whether a record was timed beside the configured reference; True if it was not timed."""
    if not isinstance(record.result, Speed):
        return True
    reference = reference_cell(cell, config)
    return (record.result.reference, record.result.reference_key) == (
        reference.entry,
        reference.key,
    )


def only_these(
    kinds: Sequence[str],
    planned: Sequence[PlannedCell],
    kept: Sequence[Record],
    here: Environment,
) -> list[PlannedCell]:
    """Planned cells whose records are failed or stale.

    ``failed``: the newest record is neither ok nor skipped; ``stale``: there are records, and none
    was made with today's source and method on such a machine.
    """
    found_by_key = by_key(kept)

    def is_wanted(p: PlannedCell) -> bool:
        found = found_by_key.get(p.cell.key)
        if not found:
            return False
        has_failed = found[-1].status not in (Status.OK, Status.SKIPPED)
        is_stale = not any(is_good(record, p.cell, here) for record in found)
        return (has_failed and "failed" in kinds) or (is_stale and "stale" in kinds)

    return [p for p in planned if is_wanted(p)]


def by_key(
    records: Iterable[Record],
    cells: Mapping[str, Cell] | None = None,
    here: Environment | None = None,
) -> dict[str, list[Record]]:
    """Records by the key of their cell, the oldest first.

    Those of `cells` alone, if given; with `here`, only records that are good on this machine.
    """
    found: dict[str, list[Record]] = {}
    for record in sorted(records, key=lambda r: r.started_at):
        key = record.cell.key
        if cells is not None and key not in cells:
            continue
        if here is None or is_good(record, cells[key] if cells else record.cell, here):
            found.setdefault(key, []).append(record)
    return found


def affordable(
    todo: Sequence[PlannedCell],
    expected_s: Callable[[PlannedCell], float],
    left_s: float,
) -> list[PlannedCell]:
    """Cells to measure next in the time left: the most informative per second first.

    Beyond the first unit they fill half of that time at most, so that the rest is chosen once
    their real cost is known. A unit that does not fit is left out, and a cheaper one may take its
    place. Cells that cannot be measured cost nothing and are always included.
    """
    units = grouped(
        (p for p in todo if p.unsupported is None),
        lambda p: p.cell.key if p.cell.is_task else p.cell.block,
    )
    costs = {name: sum(map(expected_s, unit)) for name, unit in units.items()}
    chosen = [p for p in todo if p.unsupported is not None]
    spent_s = 0.0
    for name in most_informative_first(
        {n: [p.cell for p in unit] for n, unit in units.items()}, costs
    ):
        if spent_s + costs[name] > (left_s / 2 if spent_s else left_s):
            continue
        chosen += units[name]
        spent_s += costs[name]
    return chosen


def most_informative_first(units: dict[str, list[Cell]], costs: dict[str, float]) -> list[str]:
    """Names of units, ordered by the number of new facts per second of cost.

    A fact is an entry at one value of an axis, on one task, or on one task with one seed. Units
    without a new fact come last, the cheapest first.
    """
    facts = {name: set().union(*map(_facts, cells)) for name, cells in units.items()}
    known: set[tuple[object, ...]] = set()

    def rank(name: str) -> tuple[float, float]:
        return -len(facts[name] - known) / max(costs[name], 1e-9), costs[name]

    order = []
    heap = [(rank(name), index, name) for index, name in enumerate(units)]
    heapq.heapify(heap)
    while heap:
        before, index, name = heapq.heappop(heap)
        now = rank(name)
        if now > before:  # units chosen since share its facts; a rank can only get worse
            heapq.heappush(heap, (now, index, name))
            continue
        order.append(name)
        known |= facts[name]
    return order


def _facts(cell: Cell) -> set[tuple[object, ...]]:
    if cell.is_task:
        task = cell.task.label
        return {(cell.entry, task), (cell.entry, task, cell.task.seed)}
    axes = asdict(cell.timed) | {"device": cell.device, "num_threads": cell.num_threads}
    return {(cell.entry, axis, value) for axis, value in axes.items()}
