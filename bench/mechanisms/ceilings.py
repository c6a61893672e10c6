"""The rates that floors are computed with, as a table: what this machine was seen to do at best."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bench.mechanisms.data import Measured
from bench.mechanisms.floors import MM, rate_of_mm
from bench.mechanisms.sheets import Sheet


def ceilings_sheet(measured: Measured) -> Sheet:
    """A row for each allocator and number of threads that was calibrated; none without."""
    ceilings = list(_ceilings(measured))
    sizes = sorted({size for _, one in ceilings for size, _ in one["bytes_per_s"]})
    return Sheet(
        title="Rates of this machine, by python -m bench.calibrate",
        header=(
            "threads, allocator",
            "fastest product",
            "GFLOP/s",
            f"{MM}, GFLOP/s",
            *(f"copy of {size / 2**20:g} MiB, GB/s" for size in sizes),
        ),
        rows=tuple(
            (
                f"{_threads(one['num_threads'])}, {allocator}",
                f"{' x '.join(map(str, one['product']))} by {one.get('library', MM)}",
                _giga(one["flops_per_s"]),
                _giga(rate_of_mm(one)),
                *(_giga(dict(one["bytes_per_s"]).get(size)) for size in sizes),
            )
            for allocator, one in ceilings
        ),
    )


def _ceilings(measured: Measured) -> Iterator[tuple[str, dict[str, Any]]]:
    """Allocator and ceiling, those of what was timed only."""
    dtype = measured.session.settings["shape"]["dtype"]
    for allocator, facts in measured.session.environments.items():
        found = (facts.get("calibration") or {}).get("ceilings", ())
        for one in sorted(found, key=lambda ceiling: ceiling["num_threads"] or 0):
            if (one["device"], one["dtype"]) == ("cpu", dtype):
                yield allocator, one


def _threads(count: int) -> str:
    return f"{count} thread{'s' if count > 1 else ''}"


def _giga(rate: float | None) -> str:
    return "" if rate is None else f"{rate / 1e9:.3g}"
