"""The tidy frame: every record as one row of plain values, from which tables take their columns.

``table.csv`` is all of it, for spreadsheets and data frames.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from bench.core.format import interval_names, plain
from bench.core.record import Quality, Record, Speed
from bench.core.statistics import Value, median_interval
from bench.core.store import latest
from bench.publishing.document import csv_cell
from bench.publishing.filters import filter_columns
from bench.publishing.machine import commit_of, describe_machine
from bench.publishing.metrics import evaluate
from bench.publishing.metrics.fvcore import fvcore_verdict
from bench.publishing.metrics.marks import marks
from bench.publishing.metrics.roofline import bound

Row = dict[str, Any]
_ENDS = {"latency_s": ("latency_low_s", "latency_high_s")}


def frame(records: Sequence[Record], metrics: Sequence[str]) -> list[Row]:
    """One row per record, in the records' order.

    A row has the fields of its cell, with hyperparameters and the like as JSON; status, machine and
    time; metrics with their intervals; and other conclusions from the record alone.
    """
    return [
        {name: plain(value) for name, value in record.cell.to_dict().items()}
        | numbers(record, metrics)
        | filter_columns(record)
        | {
            "status": str(record.status),
            "reason": record.reason,
            "commit": commit_of(record) or None,
            "machine": describe_machine(record),
            "started_at": record.started_at,
            "sweep": record.sweep,
            "method_version": record.method_version,
            "key": record.cell.key,
            "marks": "; ".join(marks(record)) or None,
            "reference": record.result.reference if isinstance(record.result, Speed) else None,
            "bound": bound(record),
            "fvcore_verdict": fvcore_verdict(record) or None,
            "sdpa_kernel": getattr(record.result, "sdpa_kernel", None),
            "ended": (record.result.ended or None) if isinstance(record.result, Quality) else None,
        }
        for record in records
    ]


def numbers(record: Record, metrics: Sequence[str]) -> dict[str, Value]:
    """Metrics of a record, and the ends of the interval of its median latency."""
    found = dict(evaluate(record, metrics))
    if isinstance(record.result, Speed):
        ends = median_interval(record.result.latency_s) or (None, None)
        found |= dict(zip(_ENDS["latency_s"], ends, strict=True))
    return found


def ends_of(metric: str) -> tuple[str, str]:
    """Column names of the ends of a metric's 95 % interval, whether or not it has one."""
    return _ENDS.get(metric, interval_names(metric))


# Cell fields in the order of columns; a field that is missing here is appended to them.
_CELL_FIELDS = (
    *("entry", "mechanism", "kind", "device", "num_threads", "dtype", "seq_len", "batch_size"),
    *("num_heads", "head_dim", "mode", "causal", "scope", "cache", "compile"),
    *("task", "task_label", "seed"),
)
_LAST = ("hyperparameters", "task_settings", "plugins")  # JSON, too wide for the middle

_METERED = ("power_cap_w", "energy_per_call_j")
"""Readings from a GPU's driver; a timed row without them is written as ``unavailable``."""


def csv_text(records: Sequence[Record], metrics: Sequence[str]) -> str:
    """RFC 4180, with a header, and one row per record, in the records' order.

    None is an empty field, booleans are ``true`` and ``false``, hyperparameters and the like are
    JSON. Each token filter and share that was tried has columns of its own. ``is_latest`` is false
    for a record that a newer one of the same cell has replaced. Readings of a GPU that a timed row
    lacks, as every row of a CPU does, are ``unavailable``. Text that a spreadsheet would evaluate
    is prefixed with an apostrophe.
    """
    newest = {id(record) for record in latest(records)}
    known = {name for record in records for name in record.cell.to_dict()}
    filtered = (filter_columns(record) for record in records)
    columns = (
        *_CELL_FIELDS,
        *sorted(known - set(_CELL_FIELDS) - set(_LAST)),
        *("status", "reason", "marks"),
        *metrics,
        *("reference", "bound", "fvcore_verdict", "sdpa_kernel", "ended"),
        *dict.fromkeys(name for own in filtered for name in own),
        *_LAST,
        *("machine", "started_at", "sweep", "method_version", "is_latest", "key"),
    )
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(columns)
    for row, record in zip(frame(records, metrics), records, strict=True):
        row["is_latest"] = id(record) in newest
        if isinstance(record.result, Speed):
            row |= {name: "unavailable" for name in _METERED if row.get(name) is None}
        values = (row.get(name) for name in columns)
        writer.writerow(str(v).lower() if isinstance(v, bool) else csv_cell(v) for v in values)
    return text.getvalue()
