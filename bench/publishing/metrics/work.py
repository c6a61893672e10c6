"""Rate of the FLOPs that the mathematics of a call needs; the FLOPs are in `observed`."""

from __future__ import annotations

from bench.core.record import Record, Speed
from bench.core.statistics import median
from bench.publishing.metrics.registry import register_metric


@register_metric("flops_per_s", better="higher")
def flops_per_s(record: Record) -> float | None:
    """FLOPs that the mathematics needs, per second of the median latency."""
    if not isinstance(record.result, Speed) or record.result.flops is None:
        return None
    latency = median(record.result.latency_s)
    return record.result.flops / latency if latency else None
