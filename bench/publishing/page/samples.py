"""Data behind the rows: raw samples, learning curves, token filters, and cells by sweep."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.core.record import Quality, Record, Speed
from bench.core.statistics import Value
from bench.core.store import line_numbers
from bench.publishing.filters import kept_shares
from bench.publishing.machine import commit_of, describe_machine
from bench.publishing.metrics import evaluate, find_metric
from bench.publishing.page.rows import Columns, Json, PageRows, rounded

MAX_BYTES = 5_000_000
"""Largest size of all samples together, as text, in bytes."""
DIGITS = 5


def samples(rows: PageRows, out: Path) -> Json:
    """The raw samples, or their places on disk if they are larger than `MAX_BYTES`.

    ``{"values": [...]}`` has for each row a list of samples per record. ``{"files": [...],
    "places": [...]}`` has for each row an index into files and a line per record, or None for a
    record that is in no file.
    """
    num_bytes = sum(_size(record) for own in rows.records for record in own)
    if num_bytes <= MAX_BYTES:
        return {"values": [[_of(record) for record in own] for own in rows.records]}
    places = line_numbers(out)
    files = sorted({file.name for file, _ in places.values()})
    numbers = {name: number for number, name in enumerate(files)}

    def place(record: Record) -> list[int] | None:
        found = places.get((record.cell.key, record.started_at))
        return [numbers[found[0].name], found[1]] if found else None

    return {"files": files, "places": [[*map(place, own)] for own in rows.records]}


def _of(record: Record) -> list[float]:
    """Seconds per call of a timed cell; training losses of a task."""
    result = record.result
    if isinstance(result, Speed):
        return [float(f"{value:.{DIGITS}g}") for value in result.latency_s]
    if isinstance(result, Quality):
        return [float(f"{value:.{DIGITS}g}") for value in result.losses]
    return []


def _size(record: Record) -> int:
    """Approximate size of `_of` as text, in bytes."""
    result = record.result
    if isinstance(result, Speed):
        return 11 * len(result.latency_s) + 3
    return 8 * len(result.losses) + 3 if isinstance(result, Quality) else 3


def curves(rows: PageRows) -> dict[str, list[Json]]:
    """Learning curves of each row of a task, one per seed, by the row's number as text."""
    found: dict[str, list[Json]] = {}
    for number, records in enumerate(rows.records):
        for record in records:
            result = record.result
            if isinstance(result, Quality):
                found.setdefault(str(number), []).append(
                    {
                        "seed": record.cell.task.seed,
                        "score": rounded(_score(record, result)),
                        "steps": list(result.validation_steps),
                        "validation": [rounded(score) for score in result.validation],
                    }
                )
    return found


def _score(record: Record, result: Quality) -> float:
    found = find_metric("span").of(record)
    return float(found) if found is not None else result.accuracy


def filtered(rows: PageRows) -> dict[str, list[list[Any]]]:
    """Filter, share kept, accuracy and cost ratios of each row, by the row's number as text."""
    found: dict[str, list[list[Any]]] = {}
    for number, records in enumerate(rows.records):
        for one in kept_shares("", records):
            ratio = None if one.flops_ratio is None else rounded(one.flops_ratio)
            costs = [rounded(one.accuracy), rounded(one.latency_ratio), ratio]
            found.setdefault(str(number), []).append([one.filter, one.keep, *costs])
    return found


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


def _row(record: Record) -> tuple[dict[str, str], dict[str, Value]]:
    words = {
        "cell": record.cell.describe(),
        "sweep": record.sweep,
        "key": _place(record),
        "status": str(record.status),
    }
    result = record.result
    if isinstance(result, Speed):
        numbers = evaluate(record, ["latency_s"]).values()
        return words, dict(zip(("value", "low", "high"), numbers, strict=True))
    if isinstance(result, Quality):
        return words, {"score": _score(record, result)}
    return words, {}
