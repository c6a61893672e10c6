"""Choose which planned cells to measure, and in which order under a time budget."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict

from bench.core.cell import Cell
from bench.core.record import Record, Speed, Status
from bench.measuring.config import Shard, SweepConfig
from bench.measuring.machine.environment import Environment, is_good
from bench.measuring.plan import PlannedCell, reference_cell
from bench.measuring.run import is_measured


def of_shard(planned: Sequence[PlannedCell], shard: Shard | None) -> tuple[PlannedCell, ...]:
    """The cells of a plan that are one machine's part; each is in the part of one machine only.

    What is timed side by side stays together, and a training run is on its own. Parts follow from
    the keys of the cells alone: the same command gives the same ones everywhere.
    """
    if shard is None:
        return tuple(planned)
    units = [p.cell.key if p.cell.is_task else p.cell.block for p in planned]
    # By hash: in the order of the plan every n-th block could be of the same, longest, length.
    part = {unit: index % shard.count for index, unit in enumerate(sorted(set(units)))}
    return tuple(p for p, unit in zip(planned, units, strict=True) if part[unit] == shard.index - 1)


def missing(
    planned: Sequence[PlannedCell],
    kept: Sequence[Record],
    here: Environment,
    config: SweepConfig | None = None,
) -> list[PlannedCell]:
    """The planned cells that have no settled record made with the same things as are here now.

    Beside another reference than was asked for a cell is timed again.
    """
    wanted = {p.cell.key: p.cell for p in planned}
    good = by_key(kept, wanted, here)
    todo = []
    for p in planned:
        record = good[p.cell.key][-1] if p.cell.key in good else None
        if record is None or not is_measured(record) or not _is_beside(record, p.cell, config):
            todo.append(p)
        elif record.status is Status.SKIPPED and record.reason != p.unsupported:
            todo.append(p)  # what stood in the way, such as too little memory, may have gone
    return todo


def is_of(record: Record, cell: Cell, here: Environment, config: SweepConfig | None) -> bool:
    """Whether a record is one of this cell as it would be measured now, beside its reference."""
    return is_good(record, cell, here) and _is_beside(record, cell, config)


def _is_beside(record: Record, cell: Cell, config: SweepConfig | None) -> bool:
    """True if it was timed beside the reference that is asked for."""
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
    """The planned cells that were measured before and ended badly, or with things of old.

    Args:
        kinds: ``failed``: the newest record is neither ok nor skipped; ``stale``: there are
            records, and none was made with the same source, method and machine as are here now.
        planned: the plan.
        kept: the records.
        here: this machine.
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

    Args:
        records: of a store.
        cells: by key, those that are asked about; None for all.
        here: this machine: only records are taken that are good here. None takes all.
    """
    found: dict[str, list[Record]] = {}
    for record in _by_time(records):
        key = record.cell.key
        if cells is not None and key not in cells:
            continue
        if here is None or is_good(record, cells[key] if cells else record.cell, here):
            found.setdefault(key, []).append(record)
    return found


def _by_time(records: Iterable[Record]) -> list[Record]:
    return sorted(records, key=lambda r: r.started_at)


def affordable(
    todo: Sequence[PlannedCell],
    expected_s: Callable[[PlannedCell], float],
    left_s: float,
) -> list[PlannedCell]:
    """Cells to measure next in the time left: the most informative per second first.

    They fill half of that time, so that what they really took can be taken into account when the
    rest is chosen. What does not fit is left out, and something cheaper may take its place. What
    cannot be measured costs nothing, and is always there.

    Args:
        todo: all cells that are left.
        expected_s: what one costs.
        left_s: time that is left.
    """
    units: dict[str, list[PlannedCell]] = {}
    for p in todo:
        if p.unsupported is None:
            units.setdefault(p.cell.key if p.cell.is_task else p.cell.block, []).append(p)
    costs = {name: sum(map(expected_s, unit)) for name, unit in units.items()}
    chosen = [p for p in todo if p.unsupported is not None]
    spent_s = 0.0
    for name in most_telling({n: [p.cell for p in unit] for n, unit in units.items()}, costs):
        if spent_s + costs[name] > (left_s / 2 if spent_s else left_s):
            continue
        chosen += units[name]
        spent_s += costs[name]
    return chosen


def most_telling(units: dict[str, list[Cell]], costs: dict[str, float]) -> list[str]:
    """The units in the order in which they tell most that is new per second.

    A cell tells of its entry what it does at one value of each axis, or on one task. Once all of
    that has been shown, the cheapest come first.
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
        if now > before:  # others have told some of it meanwhile; it can only get less
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
