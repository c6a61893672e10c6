"""Ceilings that a block's times are compared with, measured if no calibration gives them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from bench.core.cell import Cell
from bench.core.facts import Ceiling
from bench.measuring.device import device_named
from bench.measuring.worker.jobs import Jobs
from bench.measuring.worker.results import CEILING


class Roofs:
    """Ceilings from short measurements, by dtype: the best of all so far.

    One thread is measured. That of several is taken as so many times as much: they cannot do more,
    and measuring them beside other programs would say little. A ceiling from a busy machine is
    measured again before the next block. Those of accelerators take longer and are left to
    `bench.calibrate`. Those that a calibration holds are not measured.
    """

    def __init__(self, calibration: Mapping[str, Any] | None = None) -> None:
        ceilings = (calibration or {}).get("ceilings", ())
        self._calibrated = {(c["device"], c["dtype"], c["num_threads"]) for c in ceilings}
        self._seen: dict[tuple[str, str], Ceiling] = {}

    def look(self, jobs: Jobs, cells: Iterable[Cell]) -> None:
        """Measure missing ceilings in workers before a block is timed; 0.5 s for each dtype."""
        unknown = dict.fromkeys(
            (cell.device, cell.timed.dtype)
            for cell in cells
            if device_named(cell.device).shares_cores
            and not cell.is_model
            and (cell.device, cell.timed.dtype, cell.num_threads) not in self._calibrated
        )
        for device, dtype in unknown:
            seen = self._seen.get((device, dtype))
            is_known = seen is not None and not seen["is_noisy"]
            if is_known or device_named(device).why_no_dtype(dtype):
                continue
            outcome = jobs.do(CEILING, device=device, dtype=dtype, num_threads=1, at_a_glance=True)
            if outcome.is_ok:
                found = outcome.found
                now = Ceiling(
                    flops_per_s=found.flops_per_s,
                    bytes_per_s=[list(each) for each in found.bytes_per_s],
                    is_noisy=found.is_noisy,
                )
                self._seen[device, dtype] = _best(seen, now)

    def of(self, cell: Cell) -> Ceiling | None:
        """The ceiling of a cell's dtype and number of threads; None if it was not measured."""
        shares_cores = device_named(cell.device).shares_cores
        if not shares_cores or cell.is_model:
            return None
        one, count = self._seen.get((cell.device, cell.timed.dtype)), cell.num_threads
        if one is None:
            return None
        return Ceiling(
            flops_per_s=count * one["flops_per_s"],
            bytes_per_s=[[size, count * rate] for size, rate in one["bytes_per_s"]],
            is_noisy=one["is_noisy"],
        )


def _best(before: Ceiling | None, now: Ceiling) -> Ceiling:
    if before is None:
        return now
    rates = zip(before["bytes_per_s"], now["bytes_per_s"], strict=True)
    return Ceiling(
        flops_per_s=max(before["flops_per_s"], now["flops_per_s"]),
        bytes_per_s=[[size, max(rate, other)] for (size, rate), (_, other) in rates],
        is_noisy=now["is_noisy"],
    )
