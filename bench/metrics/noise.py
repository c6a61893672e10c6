"""Who else used the machine while the rounds ran."""

from __future__ import annotations

from bench.metrics.registry import register_metric
from bench.record import Record, Speed


@register_metric("is_noisy")
def is_noisy(record: Record) -> bool | None:
    """Whether others kept the machine too busy, also when it was timed again."""
    return record.result.is_noisy if isinstance(record.result, Speed) else None


@register_metric("foreign_cores", better="lower")
def foreign_cores(record: Record) -> float | None:
    """Cores kept busy by others while the rounds ran."""
    return record.result.load.get("foreign_cores") if isinstance(record.result, Speed) else None
