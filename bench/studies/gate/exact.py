"""The numbers without noise: any growth of one is a failure, unless it was accepted."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from bench.core.cell import Cell
from bench.publishing.metrics import find_metric
from bench.studies.gate.rows import ACCURACY, LOSS, Row
from bench.studies.gate.verdict import Verdict, judge_exact

EXACT = (
    "flops",
    "executed_flops",
    "peak_memory_bytes",
    "saved_for_backward_bytes",
    "num_operators",
    ACCURACY,
)
"""Numbers that are equal in two runs of the same code."""

HIGHER_IS_WORSE = {name: find_metric(name).better == "lower" for name in EXACT} | {LOSS: True}


def by_channel(observed: Mapping[str, Any]) -> dict[str, int | float]:
    """The numbers without noise of a result by channel; a score in a unit is a loss.

    Args:
        observed: the fields of a result by name, among them ``unit`` if it has one.
    """
    found = {name: observed.get(name) for name in EXACT}
    if observed.get("unit"):
        found[LOSS] = found.pop(ACCURACY)
    return {channel: value for channel, value in found.items() if value is not None}


def exact_rows(cell: Cell, base: Mapping[str, Any], current: Mapping[str, Any]) -> list[Row]:
    """A row for each number that at least one side has."""
    rows = []
    for channel, higher_is_worse in HIGHER_IS_WORSE.items():
        before, after = base.get(channel), current.get(channel)
        if before is None and after is None:
            continue
        if before is None or after is None:
            side = "the base" if before is None else "the current side"
            reason = f"{side} has no such number"
            rows.append(Row.of(cell, channel, Verdict.INCOMPARABLE, reason=reason))
            continue
        ratio = after / before if before else (1.0 if after == before else math.inf)
        ratio = ratio if math.isfinite(ratio) else None
        verdict = judge_exact(before, after, higher_is_worse=higher_is_worse)
        numbers = {"ratio": ratio, "low": ratio, "high": ratio, "base": before, "current": after}
        rows.append(Row.of(cell, channel, verdict, **numbers))
    return rows
