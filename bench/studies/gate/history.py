"""How cells moved over the baselines of one machine class, and with which commit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from bench.core.format import quantity
from bench.studies.gate.baselines import Baseline, Stored
from bench.studies.gate.rows import LATENCY, GateRow
from bench.studies.gate.stored import compare_pair
from bench.studies.gate.verdict import GateVerdict, Interval, confidence_tail

_BLOCKS, _NOTHING = "▁▂▃▄▅▆▇█", "·"
_MOST_MARKS = 60
"""Most baselines shown in a line, so that it fits a terminal."""
_MOVED = (
    GateVerdict.FASTER,
    GateVerdict.SLOWER,
    GateVerdict.LESS,
    GateVerdict.MORE,
    GateVerdict.BROKEN,
)


@dataclass(frozen=True, kw_only=True)
class Step:
    """One number of one cell moved between two baselines.

    Attributes:
        row: by how much.
        before: the last baseline in which it had not moved yet.
        after: the first in which it had.
    """

    row: GateRow
    before: Baseline
    after: Baseline


@dataclass(frozen=True, kw_only=True)
class _Standing:
    """State of a cell after some baselines.

    Attributes:
        level: numbers of its last step, with which its time is compared.
        last: its latest numbers.
        seen: the baseline that has these.
        is_broken: whether it has failed since.
    """

    level: Stored
    last: Stored
    seen: Baseline
    is_broken: bool = False


def steps(baselines: Sequence[Baseline], threshold: float, family_error: float) -> list[Step]:
    """Times that moved beyond noise and every change of a number without noise, oldest first.

    A time is compared with its value at the last step, so that many small moves in one direction
    show once they add up. A new METHOD_VERSION starts over.

    Args:
        baselines: of one machine class, oldest first.
        threshold: smallest move of a time that counts, as a share.
        family_error: chance of a false move among all cells of a baseline.
    """
    found: list[Step] = []
    stands: dict[str, _Standing] = {}
    method_version = None
    for baseline in baselines:
        if baseline.method_version != method_version:
            stands, method_version = {}, baseline.method_version
        tail = confidence_tail(max(1, len(baseline.cells)), family_error)
        for now in baseline.cells:
            known = stands.get(now.cell.key)
            if known is None:
                if now.failure is None:
                    stands[now.cell.key] = _Standing(level=now, last=now, seen=baseline)
                continue
            moved = [row for row in _rows(known, now, threshold, tail) if row.verdict in _MOVED]
            found += [Step(row=row, before=known.seen, after=baseline) for row in moved]
            stands[now.cell.key] = _next(known, now, baseline, moved)
    return found


def _rows(known: _Standing, now: Stored, threshold: float, tail: float) -> list[GateRow]:
    if now.failure is not None:
        return [] if known.is_broken else compare_pair(known.last, now, threshold, tail)
    exact = compare_pair(known.last, now, threshold, tail)
    time = compare_pair(known.level, now, threshold, tail)
    return [r for r in exact if r.channel != LATENCY] + [r for r in time if r.channel == LATENCY]


def _next(known: _Standing, now: Stored, baseline: Baseline, moved: Sequence[GateRow]) -> _Standing:
    if now.failure is not None:
        return replace(known, is_broken=known.is_broken or not now.is_skipped)
    is_untimed = known.level.time_over_softmax is None
    is_new_level = is_untimed or any(row.channel == LATENCY for row in moved)
    return _Standing(level=now if is_new_level else known.level, last=now, seen=baseline)


def print_history(baselines: Sequence[Baseline], found: Sequence[Step], console: Console) -> None:
    """Print the steps of one machine class by day and cell, or a sentence that there are none."""
    if len(baselines) < 2:
        console.print(
            "There are fewer than two baselines, so nothing can have moved. "
            "store=true adds one (make baseline)."
        )
        return
    first, last = baselines[0], baselines[-1]
    console.print(Text(last.machine.slug, style="bold"))
    span = f"{len(baselines)} baselines, {first.date[:10]} to {last.date[:10]}"
    versions = {baseline.method_version for baseline in baselines}
    if len(versions) > 1:
        span += "; METHOD_VERSION changed, and numbers are not compared across that"
    if not found:
        console.print(f"Nothing moved beyond noise in {span}.", highlight=False)
        return
    for (day, commits), of_day in groupby(found, key=_when):
        console.print()
        console.print(Text.assemble((day, "bold"), f"  {commits}"))
        for cell, of_cell in groupby(of_day, key=lambda step: step.row.cell):
            console.print(Text(cell))
            for step in of_cell:
                row = step.row
                words = f"{row.channel}  {row.verdict}  {_moved(row)}"
                console.print(Padding(Text(words), (0, 0, 0, 2), expand=False))
    console.print()
    _print_lines(baselines, found, console)
    console.print(f"{quantity(len(found), 'step')} in {span}.", highlight=False)


def _when(step: Step) -> tuple[str, str]:
    """The day and the commits between which a number moved."""
    before, after = ((side.commit or "unknown")[:9] for side in (step.before, step.after))
    return step.after.date[:10], f"{before}..{after}"


def _print_lines(baselines: Sequence[Baseline], found: Sequence[Step], console: Console) -> None:
    """Print a line of blocks for the times of each cell that moved, the newest at the right."""
    times = times_of(baselines, found)
    if not times:
        return
    shown = baselines[-_MOST_MARKS:]
    console.print(f"Time over softmax, {shown[0].date[:10]} to {shown[-1].date[:10]}:")
    for words, series in times.items():
        places = range(len(baselines))[-_MOST_MARKS:]
        values = [series[place].median if place in series else None for place in places]
        known = [value for value in values if value is not None]
        span = f"{min(known):.3g} to {max(known):.3g}" if known else ""
        marks = spark(values)
        console.print(Text(words))
        console.print(Padding(Text(f"{marks}  {span}"), (0, 0, 0, 2), expand=False))
    console.print()


def times_of(
    baselines: Sequence[Baseline], found: Sequence[Step]
) -> dict[str, dict[int, Interval]]:
    """Times over softmax of the cells whose time moved: by cell in words, then by baseline."""
    wanted = {step.row.key: step.row.cell for step in found if step.row.channel == LATENCY}
    times: dict[str, dict[int, Interval]] = {words: {} for words in wanted.values()}
    for number, baseline in enumerate(baselines):
        for one in baseline.cells:
            if one.cell.key in wanted and one.time_over_softmax is not None:
                times[wanted[one.cell.key]][number] = one.time_over_softmax
    return {words: series for words, series in times.items() if series}


def spark(values: Sequence[float | None]) -> str:
    """A line of blocks on a logarithmic scale from lowest to highest; a dot for a missing value."""
    known = [math.log(value) for value in values if value is not None]
    if not known:
        return _NOTHING * len(values)
    low, span = min(known), max(max(known) - min(known), math.log(1.02))
    top = len(_BLOCKS) - 1
    return "".join(
        _NOTHING if value is None else _BLOCKS[round(top * (math.log(value) - low) / span)]
        for value in values
    )


def _moved(row: GateRow) -> str:
    if row.channel != LATENCY and row.base is not None and row.current is not None:
        return f"{row.base:,.6g} → {row.current:,.6g}"
    if row.ratio is None:
        return row.reason or ""
    return f"x {row.ratio:.3f} [{row.low:.3f}, {row.high:.3f}]"
