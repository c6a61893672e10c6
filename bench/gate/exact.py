"""The numbers without noise: any growth of one is a failure, unless it was accepted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.cell import Cell
from bench.gate.rows import Row
from bench.gate.verdict import Verdict, judge_exact

HIGHER_IS_WORSE = {
    "flops": True,
    "executed_flops": True,
    "peak_memory_bytes": True,
    "saved_for_backward_bytes": True,
    "num_operators": True,
    "accuracy": False,
}


def exact_rows(cell: Cell, base: Mapping[str, Any], current: Mapping[str, Any]) -> list[Row]:
    """A row for each number that both sides have."""
    rows = []
    for channel, higher_is_worse in HIGHER_IS_WORSE.items():
        before, after = base.get(channel), current.get(channel)
        if before is None or after is None:
            continue
        ratio = after / before if before else (1.0 if after == before else None)
        rows.append(
            Row(
                entry=cell.entry,
                mechanism=cell.mechanism,
                cell=cell.describe(),
                key=cell.key,
                channel=channel,
                verdict=judge_exact(before, after, higher_is_worse=higher_is_worse),
                ratio=ratio,
                low=ratio,
                high=ratio,
                base=before,
                current=after,
            )
        )
    return rows


def missing_row(cell: Cell, verdict: Verdict, reason: str, channel: str) -> Row:
    """A row for a cell that one side does not have, or that cannot be called."""
    return Row(
        entry=cell.entry,
        mechanism=cell.mechanism,
        cell=cell.describe(),
        key=cell.key,
        channel=channel,
        verdict=verdict,
        reason=reason,
    )
