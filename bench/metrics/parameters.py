"""Learnable values."""

from __future__ import annotations

from bench.metrics.registry import register_metric
from bench.record import Record


@register_metric("num_parameters", better="lower")
def num_parameters(record: Record) -> int | None:
    """Learnable values of what was timed, or of the whole model of a task."""
    return record.result.num_parameters if record.result else None
