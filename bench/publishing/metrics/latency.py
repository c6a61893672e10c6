"""Seconds per call."""

from __future__ import annotations

from bench.core.record import Record, Speed
from bench.core.statistics import median, quantile
from bench.publishing.metrics.registry import register_metric


@register_metric("latency_s", better="lower")
def latency_s(record: Record) -> float | None:
    """Median seconds per call, warm-up apart."""
    return median(record.result.latency_s) if isinstance(record.result, Speed) else None


@register_metric("latency_p05_s", better="lower")
def latency_p05_s(record: Record) -> float | None:
    """5th percentile of the samples, each seconds per call; None with fewer than 100."""
    return quantile(record.result.latency_s, 0.05) if isinstance(record.result, Speed) else None


@register_metric("latency_p95_s", better="lower")
def latency_p95_s(record: Record) -> float | None:
    """95th percentile of the samples, each seconds per call; None with fewer than 100."""
    return quantile(record.result.latency_s, 0.95) if isinstance(record.result, Speed) else None


@register_metric("num_samples")
def num_samples(record: Record) -> int | None:
    """Samples that the median latency rests on."""
    return len(record.result.latency_s) if isinstance(record.result, Speed) else None
