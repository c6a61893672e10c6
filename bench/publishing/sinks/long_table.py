"""Every number of a sweep in a row of its own, under columns that are the same in every sweep.

Tables of several runs can therefore be joined into one, and filtered by any column.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bench.core.format import interval_names
from bench.core.record import Record, Speed, Status
from bench.core.statistics import median_interval
from bench.publishing.csv import about
from bench.publishing.metrics import evaluate

_PLACE = ("sweep", "key", "commit", "started_at", "machine", "method_version")
_CELL = (
    *("device", "num_threads", "entry", "mechanism", "kind", "dtype", "mode", "scope", "causal"),
    *("compile", "cache", "batch_size", "num_heads", "head_dim", "seq_len", "key_len"),
    *("model", "image_size", "task_label", "seed"),
)
COLUMNS = (*_PLACE, *_CELL, "status", "reason", "metric", "value", "low", "high")


def long_rows(
    records: Sequence[Record], metrics: Sequence[str]
) -> tuple[tuple[str, ...], list[Mapping[str, Any]]]:
    """The columns, and a row a number; a cell without a result has one row, with its reason."""
    return COLUMNS, [row for record in records for row in _rows(record, metrics)]


def _rows(record: Record, metrics: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    cell = record.cell.to_dict()
    common = {name: cell.get(name) for name in _CELL} | about(record)
    if record.status is not Status.OK:
        yield common
        return
    ends = {end for name in metrics for end in interval_names(name) if end in metrics}
    values = evaluate(record, metrics)
    for name in metrics:
        value = values[name]
        if name in ends or value is None:
            continue
        low, high = (values.get(end) for end in interval_names(name))
        if name == "latency_s" and isinstance(record.result, Speed):
            low, high = median_interval(record.result.latency_s) or (None, None)
        yield common | {"metric": name, "value": float(value), "low": low, "high": high}
