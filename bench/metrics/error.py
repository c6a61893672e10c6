"""Distance from the float64 oracle, checked before timing."""

from __future__ import annotations

from bench.metrics.registry import register_metric
from bench.record import Record, Speed


@register_metric("max_error", better="lower")
def max_error(record: Record) -> float | None:
    """Largest difference, relative to the oracle's largest value."""
    return record.result.max_error if isinstance(record.result, Speed) else None


@register_metric("rms_error", better="lower")
def rms_error(record: Record) -> float | None:
    """Norm of the difference, relative to the oracle's norm."""
    return record.result.rms_error if isinstance(record.result, Speed) else None
