"""Seconds per call, and tokens, images or FLOPs per second."""

from __future__ import annotations

from bench.core.record import Record, Speed
from bench.core.statistics import Interval, median, median_interval, quantile
from bench.publishing.metrics import register_metric


def _latency_interval(record: Record) -> Interval | None:
    return median_interval(record.result.latency_s) if isinstance(record.result, Speed) else None


@register_metric("latency_s", better="lower", interval=_latency_interval)
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


@register_metric("throughput_tokens_per_s", better="higher")
def throughput_tokens_per_s(record: Record) -> float | None:
    """Tokens mixed per second at the median latency."""
    if not isinstance(record.result, Speed) or record.cell.is_model:
        return None
    return _per_second(record, record.result.tokens_per_call)


@register_metric("throughput_images_per_s", better="higher")
def throughput_images_per_s(record: Record) -> float | None:
    """Images per second at the median latency, forward, or trained on where the mode says so."""
    return _per_second(record, record.cell.model.batch_size) if record.cell.is_model else None


@register_metric("flops_per_s", better="higher")
def flops_per_s(record: Record) -> float | None:
    """FLOPs that the mathematics needs, per second of the median latency."""
    if not isinstance(record.result, Speed) or record.result.flops is None:
        return None
    return _per_second(record, record.result.flops)


def _per_second(record: Record, amount: float) -> float | None:
    latency = latency_s(record)
    return amount / latency if latency else None
