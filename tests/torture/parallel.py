"""Eight sweeps of one plan into one store, all at once: they share the work."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

from tests.torture.settled import fault_of_store
from tests.torture.trial import SWEEP, Trial, end, start

AT_ONCE = 8


def parallel(count: int, draw: Random, folder: Path) -> Iterator[Trial]:
    """`count` sweeps, eight at a time; each ends well, and each cell is measured once."""
    for first in range(0, count, AT_ONCE):
        here = folder / str(first)
        here.mkdir()
        together = min(AT_ONCE, count - first)
        running = [start([*SWEEP, "out=store"], here) for _ in range(together)]
        faults = [end(process).fault(0) for process in running]
        faults[-1] = faults[-1] or fault_of_store(here / "store", is_done=True)
        for fault in faults:
            yield Trial(what=f"one of {together} sweeps into one store", fault=fault)
