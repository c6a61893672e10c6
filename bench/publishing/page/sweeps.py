"""Latency and score of every cell in every sweep, so that two sweeps can be compared."""

from __future__ import annotations

from collections.abc import Sequence

from bench.core.record import Quality, Record, Speed
from bench.core.statistics import median, median_interval
from bench.publishing.machine import commit_of, describe_machine
from bench.publishing.page.rows import Columns, Json

MAX_CELLS = 20_000
"""Largest number of records that are compared; more would double the size of the page."""


def sweeps(records: Sequence[Record]) -> Json:
    """The sweeps, and latencies and scores of the cells that several of them have.

    `records` include replaced ones.
    """
    names = list(dict.fromkeys(r.sweep for r in sorted(records, key=lambda r: r.started_at)))
    seen: dict[str, set[str]] = {}
    for record in records:
        seen.setdefault(_place(record), set()).add(record.sweep)
    several = [record for record in records if len(seen[_place(record)]) > 1]
    columns = Columns()
    for record in several[-MAX_CELLS:]:
        columns.append(*_row(record))
    return {
        "names": names,
        "commits": {r.sweep: commit_of(r) for r in records},
        "days": {r.sweep: r.started_at[:16] for r in reversed(records)},
        "rows": columns.to_json(),
        "num_left_out": max(0, len(several) - MAX_CELLS),
    }


def _place(record: Record) -> str:
    """Cell, row and machine: a key of the numbers that are compared between sweeps."""
    return f"{record.cell.key} {record.cell.entry} {describe_machine(record)}"


def _row(record: Record) -> tuple[dict[str, str], dict[str, float | int | None]]:
    words = {
        "cell": record.cell.describe(),
        "sweep": record.sweep,
        "key": _place(record),
        "status": str(record.status),
    }
    result = record.result
    if isinstance(result, Speed):
        low, high = median_interval(result.latency_s) or (None, None)
        return words, {"value": median(result.latency_s), "low": low, "high": high}
    if isinstance(result, Quality):
        return words, {"score": result.accuracy}
    return words, {}
