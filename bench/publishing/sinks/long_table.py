"""Every number of a sweep in a row of its own, under columns that are the same in every sweep.

Tables of several runs can therefore be joined into one, and filtered by any column.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bench.core.record import Record, Status
from bench.publishing.frame import Row, ends_of, frame

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
    """The columns, and one row per number; a cell without a result has one row with its reason."""
    return COLUMNS, [row for own in frame(records, metrics) for row in _rows(own, metrics)]


def _rows(own: Row, metrics: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    common = {name: own.get(name) for name in (*_PLACE, *_CELL, "status", "reason")}
    if own["status"] != Status.OK:
        yield common
        return
    ends = {end for name in metrics for end in ends_of(name)}
    for name in metrics:
        if name in ends or own[name] is None:
            continue
        low, high = (own.get(end) for end in ends_of(name))
        yield common | {"metric": name, "value": float(own[name]), "low": low, "high": high}
