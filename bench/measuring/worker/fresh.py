"""Speed-up of a member in a process that has run nothing but the member and its reference."""

from __future__ import annotations

from contextlib import suppress
from statistics import median
from typing import TYPE_CHECKING, Any

from bench.core.cell import Cell, KernelWorkload

if TYPE_CHECKING:
    from bench.measuring.subject import Subject

_NUM_PAIRS = 5
_CALL_S, _REFERENCE_FLOPS = 0.1, 10**10
"""Longest first call in seconds, and most FLOPs of a reference, that a trial has time for."""


def fresh_speedup(
    subject: Subject, flat: dict[str, Any] | None, first_call_s: float
) -> float | None:
    """Median ratio of the reference's seconds to the member's, over five pairs of calls.

    Call it before anything larger runs: after a larger call, such as the oracle's, glibc may keep
    freed memory. None without a reference `flat` or where that is the cell itself, a plugin's, or
    fails; for other cells than eager, warm forward calls of a mechanism on a CPU; and for long
    calls.
    """
    from bench.measuring.building import is_foreign
    from bench.measuring.costs.estimate import flops_of
    from bench.measuring.device import device_named
    from bench.measuring.models.subject import subject_of

    cell, w = subject.cell, subject.cell.timed
    if flat is None or not isinstance(w, KernelWorkload) or first_call_s > _CALL_S:
        return None
    if (w.mode, w.compile, w.cache) != ("forward", "eager", "warm"):
        return None
    reference, device = Cell.from_dict(flat), device_named(cell.device)
    if reference.key == cell.key or is_foreign(reference) or not device.shares_cores:
        return None
    with suppress(Exception):  # of the reference, whose own trial or probe will tell
        other = subject_of(reference)
        if flops_of(other.module, w)[1] > _REFERENCE_FLOPS:
            return None
        calls = (other.call, subject.call)
        pairs = [[device.time_calls(call, 1) for call in calls] for _ in range(1 + _NUM_PAIRS)]
        return median(one / own for one, own in pairs[1:])
    return None
