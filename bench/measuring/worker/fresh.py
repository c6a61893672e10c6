"""Speed-up of a member in a process that has run nothing but the member and its reference."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median
from typing import TYPE_CHECKING, Any

from bench.core.cell import Cell

if TYPE_CHECKING:
    from bench.measuring.subject import Subject

_NUM_PAIRS = 5
_CALL_S, _REFERENCE_FLOPS = 0.1, 10**10
"""Longest first call of a member, and most FLOPs of its reference, that are timed here.

Longer calls use temporaries that glibc returns to the system whatever the process did before.
"""


def fresh_speedup(
    subject: Subject, flat: Mapping[str, Any] | None, first_call_s: float
) -> float | None:
    """Median ratio of the reference's seconds to the member's, over five pairs of calls.

    Call it before anything larger runs: a larger call, such as the oracle's, makes glibc keep
    freed memory from then on. None without a reference `flat`, which is the member itself or a
    plugin's, for other cells than eager forward calls of one core on a CPU, and for long calls.
    """
    from bench.measuring.costs.estimate import flops_of, is_foreign
    from bench.measuring.device import device_named
    from bench.measuring.models.subject import subject_of

    cell, w = subject.cell, subject.cell.timed
    if (
        flat is None
        or cell.is_model
        or (w.mode, w.compile, w.cache) != ("forward", "eager", "warm")
    ):
        return None
    reference, device = Cell.from_dict(flat), device_named(cell.device)
    if reference.key == cell.key or is_foreign(reference) or not device.is_host:
        return None
    if first_call_s > _CALL_S:
        return None
    other = subject_of(reference)
    if flops_of(other.module, w)[1] > _REFERENCE_FLOPS:
        return None
    calls = (other.call, subject.call)
    pairs = [[device.time_calls(call, 1) for call in calls] for _ in range(1 + _NUM_PAIRS)]
    return median(one / own for one, own in pairs[1:])
