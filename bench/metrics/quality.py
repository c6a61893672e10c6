"""How well a model with this mechanism solves a task."""

from __future__ import annotations

from bench.metrics.registry import register_metric
from bench.record import Quality, Record


@register_metric("accuracy", better="higher")
def accuracy(record: Record) -> float | None:
    """Score on unseen examples, between 0 and 1."""
    return record.result.accuracy if isinstance(record.result, Quality) else None


@register_metric("chance")
def chance(record: Record) -> float | None:
    """What guessing scores on the same examples."""
    return record.result.chance if isinstance(record.result, Quality) else None


@register_metric("num_examples")
def num_examples(record: Record) -> int | None:
    """Unseen examples, or answers, that were scored."""
    return record.result.num_examples if isinstance(record.result, Quality) else None


@register_metric("train_s")
def train_s(record: Record) -> float | None:
    """Seconds of training; runs may share the machine, so not a timing to compare."""
    return record.result.train_s if isinstance(record.result, Quality) else None
