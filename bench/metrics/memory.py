"""Bytes of one call."""

from __future__ import annotations

from bench.metrics.registry import register_metric
from bench.record import Record, Speed


@register_metric("peak_memory_bytes", better="lower")
def peak_memory_bytes(record: Record) -> int | None:
    """Allocation peak of one call, above its inputs."""
    return record.result.peak_memory_bytes if isinstance(record.result, Speed) else None


@register_metric("peak_rss_bytes", better="lower")
def peak_rss_bytes(record: Record) -> int | None:
    """Growth of the process's resident size in one call, a check on the allocation peak."""
    return record.result.peak_rss_bytes if isinstance(record.result, Speed) else None


@register_metric("saved_for_backward_bytes", better="lower")
def saved_for_backward_bytes(record: Record) -> int | None:
    """What autograd keeps between forward and backward."""
    return record.result.saved_for_backward_bytes if isinstance(record.result, Speed) else None


@register_metric("state_bytes", better="lower")
def state_bytes(record: Record) -> int | None:
    """What the past takes at this context length, in modes that keep a state."""
    return record.result.state_bytes if record.result is not None else None
