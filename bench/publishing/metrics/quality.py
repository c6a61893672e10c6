"""How well a model with this mechanism solves a task."""

from __future__ import annotations

from bench.core.record import Quality, Record
from bench.publishing.metrics import register_metric


@register_metric("accuracy", better="higher")
def accuracy(record: Record) -> float | None:
    """Share of right answers on unseen examples."""
    result = record.result
    return result.accuracy if isinstance(result, Quality) and not result.unit else None


@register_metric("bits_per_byte", better="lower")
def bits_per_byte(record: Record) -> float | None:
    """Bits that the model needs for a byte of unseen text."""
    result = record.result
    if not isinstance(result, Quality) or result.unit != "bits per byte":
        return None
    return result.accuracy


@register_metric("validation")
def validation(record: Record) -> float | None:
    """The score on validation examples at the end of the run."""
    result = record.result
    return result.validation[-1] if isinstance(result, Quality) and result.validation else None


@register_metric("has_settled")
def has_settled(record: Record) -> bool | None:
    """Whether the run ended at its ceiling or plateau, and not while it still improved."""
    result = record.result
    return result.has_settled if isinstance(result, Quality) and result.ended else None
