"""The tidy frame: every record as one row of plain values, from which tables take their columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench.core.format import interval_names, plain
from bench.core.record import Quality, Record, Speed
from bench.core.statistics import Value, median_interval
from bench.publishing.filters import filter_columns
from bench.publishing.machine import commit_of, describe_machine
from bench.publishing.metrics import evaluate
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
