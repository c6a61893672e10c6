"""Tokens, or images, per second."""

from __future__ import annotations

from bench.core.record import Record, Speed
from bench.core.statistics import median
from bench.publishing.metrics.registry import register_metric


@register_metric("throughput_tokens_per_s", better="higher")
def throughput_tokens_per_s(record: Record) -> float | None:
    """Tokens mixed per second at the median latency."""
    if not isinstance(record.result, Speed) or record.cell.is_model:
        return None
    latency = median(record.result.latency_s)
    return record.result.tokens_per_call / latency if latency else None


@register_metric("throughput_images_per_s", better="higher")
def throughput_images_per_s(record: Record) -> float | None:
    """Images per second at the median latency, forward, or trained on where the mode says so."""
    if not isinstance(record.result, Speed) or not record.cell.is_model:
        return None
    latency = median(record.result.latency_s)
    return record.cell.model.batch_size / latency if latency else None
