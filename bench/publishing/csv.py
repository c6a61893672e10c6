"""Every record as one flat row, for spreadsheets and data frames."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from bench.core.format import plain
from bench.core.record import Quality, Record, Speed
from bench.core.store import latest
from bench.publishing.filters import filter_columns
from bench.publishing.machine import commit_of, describe_machine
from bench.publishing.metrics import evaluate
from bench.publishing.metrics.marks import marks
from bench.publishing.metrics.roofline import bound

# Fields of a cell in the order of columns; one that is added later follows them by itself.
_CELL_FIELDS = (
    "entry",
    "mechanism",
    "kind",
    "device",
    "num_threads",
    "dtype",
    "seq_len",
    "batch_size",
    "num_heads",
    "head_dim",
    "mode",
    "causal",
    "scope",
    "cache",
    "compile",
    "task",
    "task_label",
    "seed",
)
_LAST = ("hyperparameters", "task_settings", "plugins")  # JSON, too wide for the middle

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
"""First characters that spreadsheets compute; a number is no text, and keeps its sign."""

Row = dict[str, Any]


def flat_rows(
    records: Sequence[Record], metrics: Sequence[str]
) -> tuple[tuple[str, ...], list[Row]]:
    """Column names, and one row a record in the records' order.

    Values are numbers, words, booleans and None; hyperparameters and the like are JSON.
    Where models were filtered, each filter and share has columns of its own.
    ``is_latest`` is false for a record that a newer one of the same cell has replaced.
    """
    newest = {id(record) for record in latest(records)}
    cells = [record.cell.to_dict() for record in records]
    known = {name for cell in cells for name in cell}
    extra = sorted(known - set(_CELL_FIELDS) - set(_LAST))
    filtered = [filter_columns(record) for record in records]
    columns = (
        *_CELL_FIELDS,
        *extra,
        "status",
        "reason",
        "marks",
        *metrics,
        "reference",
        "bound",
        "sdpa_kernel",
        "ended",
        *dict.fromkeys(name for own in filtered for name in own),
        *_LAST,
        "machine",
        "started_at",
        "sweep",
        "method_version",
        "is_latest",
        "key",
    )
    rows = [
        {name: plain(value) for name, value in cell.items()}
        | evaluate(record, metrics)
        | own
        | {
            **about(record),
            "marks": "; ".join(marks(record)) or None,
            "reference": record.result.reference if isinstance(record.result, Speed) else None,
            "bound": bound(record),
            "sdpa_kernel": getattr(record.result, "sdpa_kernel", None),
            "ended": (record.result.ended or None) if isinstance(record.result, Quality) else None,
            "is_latest": id(record) in newest,
        }
        for record, cell, own in zip(records, cells, filtered, strict=True)
    ]
    return columns, [{name: row.get(name) for name in columns} for row in rows]


def about(record: Record) -> Row:
    """Facts about a record: how it ended, and where and when it was measured."""
    return {
        "status": str(record.status),
        "reason": record.reason,
        "commit": commit_of(record) or None,
        "machine": describe_machine(record),
        "started_at": record.started_at,
        "sweep": record.sweep,
        "method_version": record.method_version,
        "key": record.cell.key,
    }


def csv_text(records: Sequence[Record], metrics: Sequence[str]) -> str:
    """RFC 4180, with a header; None is an empty field, booleans are ``true`` and ``false``.

    A text that a spreadsheet would take for a formula is given an apostrophe, which makes it text.
    """
    columns, rows = flat_rows(records, metrics)
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(columns)
    writer.writerows([_field(row[name]) for name in columns] for row in rows)
    return text.getvalue()


def _field(value: Any) -> Any:
    if isinstance(value, str) and value.startswith(_FORMULA_STARTS):
        return f"'{value}"
    return str(value).lower() if isinstance(value, bool) else value
