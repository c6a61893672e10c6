"""How near a form comes to the least time of its machine, by the fastest product and by torch.mm's.

That time is of its products and of one pass over its inputs and output, one after the other. A
kernel that did both at once could take less, down to the longer of the two, which is what a
leaderboard's `roofline_fraction` asks for; a row of operators, as all forms here are, cannot.

Two libraries make products here, and one may be twice as fast. The first fraction says what the
machine could do; the second what is left of it to a program that only calls ``torch.mm``, as
published code does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from bench.metrics.roofline import floors_s
from bench.record import Record, Speed
from bench.statistics import median

MM = "torch.mm"


def floor_fraction(record: Record) -> float | None:
    """The least time over the median; None without a calibration."""
    sides = floors_s(record)
    latency_s = median(record.result.latency_s) if isinstance(record.result, Speed) else None
    return sum(sides.values()) / latency_s if sides and latency_s else None


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
