"""Units of work, the cells that one sweep measures together, their order, and leases on them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from bench.core.cell import Cell
from bench.core.grouping import grouped
from bench.core.record import Record
from bench.core.store import Tail
from bench.measuring.costs.estimate import expected_s
from bench.measuring.machine.environment import Environment, kind_of_machine
from bench.measuring.measure.stopping import Stopping
from bench.measuring.sharing.leases import Leases


class Work:
    """The cells of a runner that shares them with no other sweep."""

    is_across_machines = False

    def left(self, cells: Sequence[Cell]) -> list[Cell]:
        """Cells of these without a record."""
        return list(cells)

    def acquire(self, name: str, cells: Sequence[Cell], what: str) -> list[Cell] | None:
        """Lease a unit of work: its cells without a record, or None if another sweep holds it.

        If no cell is left, no lease is held.
        """
        return list(cells)

    def release(self, name: str) -> None:
        """Release leased work, once its records are written."""

    def holders(self, names: Sequence[str]) -> str:
        """Sweeps that hold these units of work, in words."""
        return "nobody"


class SharedWork(Work):
    """The cells of a sweep, some of which other sweeps measure into the same store.

    `settles` says whether a record of another sweep, of any status, settles a cell for this one;
    `tell` is called with each that does.
    """

    def __init__(
        self,
        leases: Leases,
        tail: Tail,
        settles: Callable[[Record, Cell], bool],
        cells: Sequence[Cell],
        tell: Callable[[Record], None],
    ) -> None:
        self._leases = leases
        self._tail = tail
        self._settles = settles
        self._wanted = {cell.key: cell for cell in cells}
        self._tell = tell
        self._reading = threading.Lock()

    @property
    def is_across_machines(self) -> bool:  # type: ignore[override]
        """Whether sweeps on other machines work on the same store now."""
        return any(not holder.is_here for _, holder in self._leases.others())

    def left(self, cells: Sequence[Cell]) -> list[Cell]:
        """See `Work`."""
        with self._reading:  # there is a thread for each device
            for record in self._tail.read():
                cell = self._wanted.get(record.cell.key)
                if cell is not None and self._settles(record, cell):
                    del self._wanted[cell.key]
                    self._tell(record)
        return [cell for cell in cells if cell.key in self._wanted]

    def acquire(self, name: str, cells: Sequence[Cell], what: str) -> list[Cell] | None:
        """See `Work`."""
        if not self._leases.acquire(name, what):
            return None
        left = self.left(cells)  # others may have written until now
        if not left:
            self._leases.release(name)
        return left

    def release(self, name: str) -> None:
        """See `Work`."""
        self._leases.release(name)

    def holders(self, names: Sequence[str]) -> str:
        """See `Work`."""
        held = [holder for name, holder in self._leases.others() if name in names]
        return ", ".join(f"{holder.name} ({holder.what})" for holder in held) or "nobody any more"


Unit = list[Cell]
"""A block of cells that are timed side by side, or one cell that is trained."""


def blocks(cells: Sequence[Cell]) -> list[Unit]:
    """Group cells into the blocks that are timed together, in order of their first cells."""
    return list(grouped(cells, lambda cell: cell.block).values())


def name_of(unit: Unit, environment: Environment) -> str:
    """Name of a unit for leases; units of equal names give interchangeable results."""
    kind = kind_of_machine(unit[0].device, environment)
    return f"{unit[0].key if unit[0].is_task else unit[0].block}-{kind}"


def name_of_skips(cells: Sequence[Cell], environment: Environment) -> str:
    """Name for leases of the cells of a sweep that cannot be measured."""
    return "skipped-" + kind_of_machine(cells[0].device, environment)


def in_order(units: list[Unit], stopping: Stopping, *, is_across_machines: bool) -> list[Unit]:
    """Sort units: cheapest first, so that a table is there soon; across machines longest first.

    Then no machine is left with a long unit when the others have finished.
    """

    def expected(unit: Unit) -> float:
        return sum(expected_s(cell, stopping) for cell in unit)

    return sorted(units, key=expected, reverse=is_across_machines)
