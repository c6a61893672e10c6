"""Cells that are still to be measured, and claims on them, as a runner sees them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from bench.core.cell import Cell
from bench.core.record import Record, Status
from bench.core.store import Tail
from bench.measuring.sharing.claims import Claims


class Work:
    """The cells of a runner that shares them with no other sweep."""

    is_across_machines = False

    def left(self, cells: Sequence[Cell]) -> list[Cell]:
        """Cells of these without a record."""
        return list(cells)

    def take(self, name: str, cells: Sequence[Cell], what: str) -> list[Cell] | None:
        """Claim work: its cells without a record, or None if another sweep holds it.

        If no cell is left, no claim is held.

        Args:
            name: name of the work.
            cells: its cells.
            what: description of the work, shown to sweeps that wait for it.
        """
        return list(cells)

    def release(self, name: str) -> None:
        """Release claimed work, once its records are written."""

    def holders(self, names: Sequence[str]) -> str:
        """Sweeps that hold these pieces of work, in words."""
        return "nobody"


class SharedWork(Work):
    """The cells of a sweep, some of which other sweeps measure into the same store.

    Args:
        claims: claims of this sweep.
        tail: reads the records that other sweeps append to the store.
        settles: whether a record of another sweep settles a cell for this one; it is called for
            records of any status.
        cells: the cells of this sweep.
        tell: called with each record of another sweep that settles a cell.
    """

    def __init__(
        self,
        claims: Claims,
        tail: Tail,
        settles: Callable[[Record, Cell], bool],
        cells: Sequence[Cell],
        tell: Callable[[Record], None],
    ) -> None:
        self._claims = claims
        self._tail = tail
        self._settles = settles
        self._wanted = {cell.key: cell for cell in cells}
        self._tell = tell
        self._reading = threading.Lock()

    @property
    def is_across_machines(self) -> bool:  # type: ignore[override]
        """Whether sweeps on other machines work on the same store now."""
        return any(not owner.is_here for _, owner in self._claims.others())

    def left(self, cells: Sequence[Cell]) -> list[Cell]:
        """See `Work`."""
        with self._reading:  # there is a thread for each device
            for record in self._tail.read():
                cell = self._wanted.get(record.cell.key)
                if cell is not None and self._settles(record, cell):
                    del self._wanted[cell.key]
                    self._tell(record)
        return [cell for cell in cells if cell.key in self._wanted]

    def take(self, name: str, cells: Sequence[Cell], what: str) -> list[Cell] | None:
        """See `Work`."""
        if not self._claims.take(name, what):
            return None
        left = self.left(cells)  # others may have written until now
        if not left:
            self._claims.release(name)
        return left

    def release(self, name: str) -> None:
        """See `Work`."""
        self._claims.release(name)

    def holders(self, names: Sequence[str]) -> str:
        """See `Work`."""
        held = [owner for name, owner in self._claims.others() if name in names]
        return ", ".join(f"{owner.name} ({owner.what})" for owner in held) or "nobody any more"

    def machines(self) -> str:
        """Progress such as ``node1: 3 done; node2: 5 done, 2 running``; empty if alone."""
        if next(self._claims.others(), None) is None:
            return ""
        words = []
        for host, counts in self._claims.by_machine().items():
            told = [f"{counts[kind]} {kind}" for kind in ("done", "failed", "running")]
            words.append(f"{host}: " + ", ".join(one for one in told if not one.startswith("0 ")))
        return "; ".join(words)

    def finished(self, record: Record) -> None:
        """Count a record of this sweep, for the progress that its later claims show."""
        self._claims.done += 1
        self._claims.failed += record.status not in (Status.OK, Status.SKIPPED)
