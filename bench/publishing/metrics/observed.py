"""Metrics that a record already holds: fields annotated with a `Meaning`, loads and scores."""

from __future__ import annotations

from typing import get_type_hints

from bench.core.observed import Meaning, Quality, Speed
from bench.core.record import Record
from bench.core.spans import at_height, span_of
from bench.core.statistics import Value
from bench.publishing.metrics import register_metric


def meanings(kind: type) -> dict[str, Meaning]:
    """Meanings of the fields of a result class that are metrics, by name."""
    return {
        name: told
        for name, hint in get_type_hints(kind, include_extras=True).items()
        for told in getattr(hint, "__metadata__", ())
        if isinstance(told, Meaning)
    }


OF_KIND = {kind: meanings(kind) for kind in (Speed, Quality)}


def _register(name: str, meaning: Meaning) -> None:
    def observed(record: Record) -> Value:
        names = OF_KIND.get(type(record.result), {})  # type: ignore[arg-type]
        return getattr(record.result, name) if name in names else None

    observed.__doc__ = meaning.words
    register_metric(name, better=meaning.better)(observed)


for _name, _meaning in (OF_KIND[Quality] | OF_KIND[Speed]).items():
    _register(_name, _meaning)


@register_metric("foreign_cores", better="lower")
def foreign_cores(record: Record) -> float | None:
    """Cores kept busy by others while the rounds ran."""
    return record.result.load.get("foreign_cores") if isinstance(record.result, Speed) else None


@register_metric("power_cap_w")
def power_cap_w(record: Record) -> float | None:
    """Power that the card was limited to while the rounds ran; None on a CPU."""
    return record.result.load.get("power_cap_w_after") if isinstance(record.result, Speed) else None


@register_metric("accuracy", better="higher")
def accuracy(record: Record) -> float | None:
    """Share of right answers on unseen examples."""
    result = record.result
    if not isinstance(result, Quality) or result.unit or result.rungs:
        return None
    return result.accuracy


@register_metric("span", better="higher")
def span(record: Record) -> float | None:
    """Highest rung with 90 % right answers, interpolated; at an end of the ladder, that end."""
    found = span_of(record.result) if isinstance(record.result, Quality) else None
    return at_height(found.height, found.rungs) if found else None


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
