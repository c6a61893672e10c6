"""Compare what was stored of two measurements, of which nothing can be timed again.

Times are compared as ratios to softmax within their own rounds, because the seconds of two
processes differ by what the processes were born with. What is left of that difference is in no
interval, so the threshold is wide. Numbers without noise are compared as they are.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from statistics import NormalDist

from bench.core.cell import Cell
from bench.core.cli.errors import ConfigError
from bench.studies.gate.exact import exact_rows, missing_row
from bench.studies.gate.rows import LATENCY, Row
from bench.studies.gate.verdict import Interval, Verdict, confidence_tail, judge

_USUAL_TAIL = 0.025
"""Left out at each end of a stored interval, which is one of 95 %."""


@dataclass(frozen=True, kw_only=True)
class Circumstances:
    """Circumstances that must be alike on both sides; None where a side does not say."""

    method_version: int | None
    processor: str | None
    device: str | None
    allocator: str | None
    num_threads: int | None


_WORDS = {
    "method_version": "METHOD_VERSION",
    "processor": "processor",
    "device": "device",
    "allocator": "allocator",
    "num_threads": "num_threads",
}


@dataclass(frozen=True, kw_only=True)
class Stored:
    """Stored numbers of one cell.

    Attributes:
        key: of the cell.
        words: it in words.
        work: what was measured, wherever and with however many threads: the same on both sides.
        time: seconds per second of softmax in the same rounds, with its 95 % interval.
        why_untimed: why there is no `time`.
        latency_s: median seconds per call, for orientation.
        exact: the numbers without noise, by channel.
        failure: how it ended, if not well; then there are no numbers.
        is_skipped: it was not tried, because it is unsupported or would not fit into memory.
        is_noisy: other programs kept the machine busy.
        channel: the one that says whether it works at all.
    """

    entry: str
    mechanism: str
    key: str
    words: str
    work: str
    circumstances: Circumstances
    time: Interval | None = None
    why_untimed: str | None = None
    latency_s: float | None = None
    exact: Mapping[str, float] = field(default_factory=dict)
    failure: str | None = None
    is_skipped: bool = False
    is_noisy: bool = False
    channel: str = LATENCY

    def describe(self) -> str:
        """It in words."""
        return self.words


def work_of(cell: Cell) -> str:
    """A hash of a cell without where it runs."""
    return replace(cell, device="", num_threads=0).key


@dataclass(frozen=True, kw_only=True)
class Side:
    """One side of a comparison of stored numbers.

    Attributes:
        words: where the numbers come from, and of which commit and day.
        commit: which all of them are of; None if they are not of one, or do not say.
        torch: versions of torch that they were made with.
    """

    words: str
    commit: str | None
    cells: tuple[Stored, ...]
    torch: frozenset[str] = frozenset()


def compare_stored(
    base: Side, current: Side, threshold: float, family_error: float
) -> tuple[Row, ...]:
    """Rows of every cell of either side; one that only one side has is ``new`` or ``gone``.

    Raises:
        ConfigError: the sides cannot be compared, and why.
    """
    pairs, new, gone = _pair(base.cells, current.cells)
    num_timed = sum(None not in (before.time, after.time) for before, after in pairs)
    tail = confidence_tail(max(1, num_timed), family_error)
    rows: list[Row] = []
    for before, after in pairs:
        rows += compare_pair(before, after, threshold, tail)
    rows += [missing_row(c, Verdict.NEW, "the base does not have it", c.channel) for c in new]
    rows += [missing_row(c, Verdict.GONE, "only the base has it", c.channel) for c in gone]
    return tuple(rows)


def compare_pair(base: Stored, current: Stored, threshold: float, tail: float) -> list[Row]:
    """Rows of one cell: numbers without noise first, then its time."""
    channel = current.channel
    if current.failure is not None:
        verdict = Verdict.GONE if current.is_skipped else Verdict.BROKEN
        if base.failure is not None:
            verdict = Verdict.INCOMPARABLE
        return [missing_row(current, verdict, f"the current side: {current.failure}", channel)]
    if base.failure is not None:
        reason = f"the base: {base.failure}"
        return [missing_row(current, Verdict.INCOMPARABLE, reason, channel)]
    rows = exact_rows(current, base.exact, current.exact)
    if channel == LATENCY:
        rows.append(_time_row(base, current, threshold, tail))
    return rows


def _time_row(base: Stored, current: Stored, threshold: float, tail: float) -> Row:
    row = missing_row(current, Verdict.INCOMPARABLE, "", LATENCY)
    if base.time is None or current.time is None:
        return replace(row, reason=current.why_untimed or base.why_untimed)
    ratio = quotient(base.time, current.time, tail)
    noisy = [name for name, side in (("base", base), ("current", current)) if side.is_noisy]
    return replace(
        row,
        verdict=judge(ratio, threshold),
        ratio=ratio.median,
        low=ratio.low,
        high=ratio.high,
        base=base.latency_s,
        current=current.latency_s,
        reason=f"measured on a busy machine: {' and '.join(noisy)}" if noisy else None,
    )


def quotient(base: Interval, current: Interval, tail: float) -> Interval:
    """Current over base, with `tail` left out at each end, from two intervals of 95 %.

    The distances of each side's ends from its median are added in quadrature, on a logarithmic
    scale (the method of variance estimates recovery; Zou and Donner, 2008, Statistics in Medicine
    27, 1693), and widened as a normal distribution would be.
    """
    normal = NormalDist()
    widening = normal.inv_cdf(1 - tail) / normal.inv_cdf(1 - _USUAL_TAIL)
    below = math.hypot(_distance(current.low, current.median), _distance(base.median, base.high))
    above = math.hypot(_distance(current.median, current.high), _distance(base.low, base.median))
    median = current.median / base.median
    return Interval(
        median=median,
        low=median * math.exp(-widening * below),
        high=median * math.exp(widening * above),
    )


def _distance(low: float, high: float) -> float:
    return math.log(high / low)


Pair = tuple[Stored, Stored]
Paired = tuple[list[Pair], list[Stored], list[Stored]]


def _pair(base: Sequence[Stored], current: Sequence[Stored]) -> Paired:
    """Pairs of the same work under the same circumstances; then what has no partner.

    Raises:
        ConfigError: the same work was measured under different circumstances only.
    """
    before, after = _by_work(base), _by_work(current)
    pairs: list[Pair] = []
    clashes: list[Pair] = []
    for work, here in after.items():
        there = before.get(work, {})
        shared = [circumstances for circumstances in here if circumstances in there]
        pairs += [(there[circumstances], here[circumstances]) for circumstances in shared]
        if there and not shared:
            clashes.append((next(iter(there.values())), next(iter(here.values()))))
    if clashes:
        raise ConfigError(_refusal(clashes))
    if not pairs:
        raise ConfigError(
            "The two sides have no cell in common. They have to measure the same mechanism with "
            "the same hyperparameters at the same shape."
        )
    paired = {id(cell) for pair in pairs for cell in pair}
    return pairs, _others(after, paired), _others(before, paired)


def _by_work(cells: Iterable[Stored]) -> dict[str, dict[Circumstances, Stored]]:
    """The last one of each work and circumstances."""
    found: dict[str, dict[Circumstances, Stored]] = defaultdict(dict)
    for cell in cells:
        found[cell.work][cell.circumstances] = cell
    return found


def _others(found: dict[str, dict[Circumstances, Stored]], paired: set[int]) -> list[Stored]:
    return [cell for cells in found.values() for cell in cells.values() if id(cell) not in paired]


def _refusal(clashes: Sequence[Pair]) -> str:
    base, current = clashes[0]
    differences = "; ".join(_differences(base.circumstances, current.circumstances))
    more = f", and {len(clashes) - 1} more" if len(clashes) > 1 else ""
    return (
        f"The two sides were not measured alike, so their numbers cannot be compared: "
        f"{differences} ({current.words}{more}). Measure one of them again as the other was."
    )


def _differences(base: Circumstances, current: Circumstances) -> Iterator[str]:
    for name in (f.name for f in fields(Circumstances)):
        before, after = getattr(base, name), getattr(current, name)
        if before != after:
            yield f"{_WORDS[name]} is {_said(before)} in the base and {_said(after)} now"


def _said(value: object) -> str:
    return "not said" if value is None else str(value)
