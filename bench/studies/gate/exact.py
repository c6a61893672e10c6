"""The numbers without noise: any growth of one is a failure, unless it was accepted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.studies.gate.rows import ACCURACY, Named, Row
from bench.studies.gate.verdict import Verdict, judge_exact

HIGHER_IS_WORSE = {
    "flops": True,
    "executed_flops": True,
    "peak_memory_bytes": True,
    "saved_for_backward_bytes": True,
    "num_operators": True,
    ACCURACY: False,
}


def exact_rows(what: Named, base: Mapping[str, Any], current: Mapping[str, Any]) -> list[Row]:
    """A row for each number that a side has."""
    rows = []
    for channel, higher_is_worse in HIGHER_IS_WORSE.items():
        before, after = base.get(channel), current.get(channel)
        if before is None and after is None:
            continue
        if before is None or after is None:
            side = "the base" if before is None else "the current side"
            reason = f"{side} has no such number"
            rows.append(missing_row(what, Verdict.INCOMPARABLE, reason, channel))
            continue
        ratio = after / before if before else (1.0 if after == before else None)
        rows.append(
            Row(
                entry=what.entry,
                mechanism=what.mechanism,
                cell=what.describe(),
                key=what.key,
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


def missing_row(what: Named, verdict: Verdict, reason: str, channel: str) -> Row:
    """A row for what one side does not have, or cannot call."""
    return Row(
        entry=what.entry,
        mechanism=what.mechanism,
        cell=what.describe(),
        key=what.key,
        channel=channel,
        verdict=verdict,
        reason=reason,
    )
