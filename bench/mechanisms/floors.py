"""How near a form comes to the least time of its machine, by the fastest product and by torch.mm's.

Two libraries make products here, and one may be twice as fast. The first fraction says what the
machine could do; the second what is left of it to a program that only calls ``torch.mm``, as
published code does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from bench.metrics import evaluate
from bench.record import Record

MM = "torch.mm"


def floor_fraction(record: Record) -> float | None:
    """The least time over the median; None without a calibration."""
    value = evaluate(record, ["roofline_fraction"])["roofline_fraction"]
    return value if isinstance(value, float) else None


def floor_fraction_by_mm(record: Record) -> float | None:
    """The same with all products at the rate of `MM`; None where that was not calibrated."""
    facts = record.environment
    ceilings = (facts.get("calibration") or {}).get("ceilings", ())
    by_mm = [
        dict(one) | {"flops_per_s": rate}
        for one in ceilings
        if (rate := rate_of_mm(one)) is not None
    ]
    calibration = {"calibration": {"ceilings": by_mm}}
    return floor_fraction(replace(record, environment=dict(facts) | calibration))


def rate_of_mm(ceiling: Mapping[str, Any]) -> float | None:
    """FLOPs per second of `MM`, which was the only one in calibrations that name no library."""
    if "library" not in ceiling:
        return float(ceiling["flops_per_s"])
    return dict(ceiling["library_flops_per_s"]).get(MM)
