"""The ceiling that a block's times are held against, looked for where no calibration says it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from bench.cell import Cell
from bench.measure.dtypes import why_no_dtype
from bench.observed import Ceiling
from bench.worker.jobs import Jobs
from bench.worker.results import CEILING

_Place = tuple[str, str, int]


class Roofs:
    """Ceilings at a glance, by dtype and number of threads: the best of all looks so far.

    One that was seen on a busy machine is looked for again before the next block. Those of
    accelerators take longer and are left to `bench.calibrate`.

    Args:
        calibration: places that it has are not looked at.
    """

    def __init__(self, calibration: Mapping[str, Any] | None = None) -> None:
        ceilings = (calibration or {}).get("ceilings", ())
        self._calibrated = {(c["device"], c["dtype"], c["num_threads"]) for c in ceilings}
        self._seen: dict[_Place, Ceiling] = {}

    def look(self, jobs: Jobs, cells: Iterable[Cell]) -> None:
        """Have workers look before the cells of a block are timed; half a second for each place."""
        for place in dict.fromkeys(_place(cell) for cell in cells if not cell.is_model):
            device, dtype, num_threads = place
            is_known = place in self._seen and not self._seen[place]["is_noisy"]
            if device != "cpu" or is_known or place in self._calibrated:
                continue
            if why_no_dtype(device, dtype):
                continue
            outcome = jobs.do(
                CEILING, device=device, dtype=dtype, num_threads=num_threads, at_a_glance=True
            )
            if outcome.is_ok:
                found = outcome.found
                now = Ceiling(
                    flops_per_s=found.flops_per_s,
                    bytes_per_s=[list(each) for each in found.bytes_per_s],
                    is_noisy=found.is_noisy,
                )
                self._seen[place] = _best(self._seen.get(place), now)

    def of(self, cell: Cell) -> Ceiling | None:
        """The ceiling of a cell's place; None where nobody has looked."""
        return None if cell.is_model else self._seen.get(_place(cell))


def _place(cell: Cell) -> _Place:
    return cell.device, cell.timed.dtype, cell.num_threads


def _best(before: Ceiling | None, now: Ceiling) -> Ceiling:
    if before is None:
        return now
    rates = zip(before["bytes_per_s"], now["bytes_per_s"], strict=True)
    return Ceiling(
        flops_per_s=max(before["flops_per_s"], now["flops_per_s"]),
        bytes_per_s=[[size, max(rate, other)] for (size, rate), (_, other) in rates],
        is_noisy=now["is_noisy"],
    )
