"""Arithmetic of one call: what the mathematics needs, what is executed, what counters saw."""

from __future__ import annotations

from bench.metrics.registry import register_metric
from bench.record import Record, Speed
from bench.statistics import median


@register_metric("flops", better="lower")
def flops(record: Record) -> int | None:
    """FLOPs that the mathematics of one call needs, two per multiply-add; no elementwise work."""
    return record.result.flops if isinstance(record.result, Speed) else None


@register_metric("executed_flops", better="lower")
def executed_flops(record: Record) -> int | None:
    """FLOPs that this implementation executes, by its formula."""
    return record.result.executed_flops if isinstance(record.result, Speed) else None


@register_metric("counted_flops", better="lower")
def counted_flops(record: Record) -> int | None:
    """FLOPs that torch's counter saw."""
    return record.result.counted_flops if isinstance(record.result, Speed) else None


@register_metric("fvcore_flops", better="lower")
def fvcore_flops(record: Record) -> int | None:
    """FLOPs of the forward pass that fvcore saw: its multiply-adds, doubled."""
    return record.result.fvcore_flops if isinstance(record.result, Speed) else None


@register_metric("flops_per_s", better="higher")
def flops_per_s(record: Record) -> float | None:
    """FLOPs that the mathematics needs, per second of the median latency."""
    if not isinstance(record.result, Speed) or record.result.flops is None:
        return None
    latency = median(record.result.latency_s)
    return record.result.flops / latency if latency else None


@register_metric("elementwise_elements", better="lower")
def elementwise_elements(record: Record) -> int | None:
    """Elements written by operators that no FLOP counter prices."""
    return record.result.elementwise_elements if isinstance(record.result, Speed) else None


@register_metric("num_operators", better="lower")
def num_operators(record: Record) -> int | None:
    """Operators dispatched in one call."""
    return record.result.num_operators if isinstance(record.result, Speed) else None
