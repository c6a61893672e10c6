"""Compare the stored numbers of two measurements, neither of which can be timed again.

Times are compared as ratios to softmax within their own rounds, because the seconds of two
processes differ for as long as the processes live, even with the same code. No interval covers
what remains of that difference, so the threshold is wide. Numbers without noise are compared as
they are.
"""

from __future__ import annotations

import math
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import NormalDist

from bench.core.cell import Cell
from bench.core.cli.errors import ConfigError
from bench.core.record import REFERENCE, Record, Speed, Status
from bench.core.statistics import MIN_ROUNDS, median, paired_ratio
from bench.core.store import Line, StoreContents, lines_of, read_packed, records_folder
from bench.studies.gate.rows import (
    EXACT,
    LATENCY,
    GateRow,
    GateVerdict,
    Interval,
    by_channel,
    channel_of,
    confidence_tail,
    exact_rows,
    judge,
)

KINDS = "a sweep's folder (with records/ in it), or a file of records (*.jsonl, *.jsonl.gz)"

CIRCUMSTANCES = ("METHOD_VERSION", "processor", "device", "allocator", "num_threads")
"""Circumstances that must be equal on both sides; None where the records of a side lack one."""
Circumstances = tuple[int | str | None, ...]


@dataclass(frozen=True, kw_only=True)
class Stored:
    """Numbers of one cell.

    Attributes:
        circumstances: the values of `CIRCUMSTANCES` that it was measured under.
        time_over_softmax: seconds per second of softmax in the same rounds, with a 95 % interval.
        why_untimed: why that ratio is missing.
        latency_s: median seconds per call, for orientation.
        exact: the numbers without noise, by channel.
        failure: status and reason of a cell that failed, which then has no numbers.
        is_skipped: it was not tried, because it is unsupported or would not fit into memory.
        is_noisy: other programs kept the machine busy.
    """

    cell: Cell
    circumstances: Circumstances
    time_over_softmax: Interval | None
    why_untimed: str | None
    latency_s: float | None
    exact: dict[str, int | float]
    failure: str | None
    is_skipped: bool
    is_noisy: bool


def stored(record: Record) -> Stored:
    """The numbers of one record."""
    result, facts, device = record.result, record.environment, record.cell.device
    time, why_untimed = time_over_softmax(result) if isinstance(result, Speed) else (None, None)
    return Stored(
        cell=record.cell,
        circumstances=(
            record.method_version,
            facts.get("processor"),
            facts.get("devices", {}).get(device, device),
            facts.get("allocator"),
            record.cell.num_threads,
        ),
        time_over_softmax=time,
        why_untimed=why_untimed,
        latency_s=median(result.latency_s) if isinstance(result, Speed) else None,
        exact=by_channel({name: getattr(result, name, None) for name in (*EXACT, "unit")}),
        failure=None if result is not None else f"{record.status}: {record.reason}",
        is_skipped=record.status is Status.SKIPPED,
        is_noisy=isinstance(result, Speed) and result.is_noisy,
    )


def time_over_softmax(speed: Speed) -> tuple[Interval | None, str | None]:
    """Seconds per second of softmax in the same rounds, with a 95 % interval; or None, and why."""
    if speed.reference != REFERENCE:
        return None, f"it was timed against {speed.reference}, not against softmax"
    if speed.latency_s == speed.reference_latency_s:
        return None, "it is the reference itself, whose ratio to itself cannot move"
    faster = paired_ratio(*speed.paired)
    if faster is None:
        return None, "softmax was not timed with it"
    if faster.low is None or faster.high is None:
        return None, f"fewer than {MIN_ROUNDS} rounds carry no interval"
    return Interval(median=1 / faster.median, low=1 / faster.high, high=1 / faster.low), None


@dataclass(frozen=True, kw_only=True)
class Side:
    """One side of a comparison of stored numbers.

    Attributes:
        words: where the numbers come from, and of which commit.
        cells: the numbers, oldest first.
        commit: of all numbers; None if they are of several, or of an unknown one.
        torch: versions of torch that the numbers were measured with.
    """

    words: str
    cells: tuple[Stored, ...]
    commit: str | None
    torch: frozenset[str]

    @property
    def entries(self) -> set[str]:
        """Labels of the entries that have numbers."""
        return {one.cell.entry for one in self.cells}


def side_of_records(records: Iterable[Record], words: str) -> Side:
    """Records as one side of a comparison, oldest first: the newest of a cell counts."""
    newest_last = sorted(records, key=lambda record: record.started_at)
    commits = {record.environment.get("commit") for record in newest_last}
    commit = commits.pop() if len(commits) == 1 else None
    versions = (record.environment.get("versions", {}).get("torch") for record in newest_last)
    return Side(
        words=f"{words}, commit {commit[:12]}" if commit else words,
        cells=tuple(map(stored, newest_last)),
        commit=commit,
        torch=frozenset(map(str, versions)),
    )


def read_side(key: str, path: Path) -> Side:
    """Read the records that a path names.

    Args:
        key: the configuration key that gave the path, for messages.
        path: folder or file.

    Raises:
        ConfigError: there is nothing there, nothing that holds records, or a line that is none.
    """
    folder = records_folder(path) if os.path.isdir(records_folder(path)) else path
    files = [folder] if os.path.isfile(folder) else sorted(folder.glob("*.jsonl*"))
    records: list[Record] = []
    left_out: list[Line] = []
    for file in files:
        if file.suffix == ".gz":
            records += read_packed(file)
            continue
        for line in lines_of(file):
            if line.record is not None:
                records.append(line.record)
            else:
                left_out.append(line)
    contents = StoreContents(records=tuple(records), left_out=tuple(left_out))
    if contents.is_damaged:  # a verdict on the rest would look more complete than it is
        raise ConfigError("\n".join([f"{key}={path} is damaged.", *contents.describe()]))
    if not records:
        problem = "holds no records" if os.path.exists(path) else "is not there"
        raise ConfigError(f"{key}={path} {problem}. It takes {KINDS}.")
    return side_of_records(records, str(path))


_USUAL_TAIL = 0.025
"""Share beyond each end of a stored interval, which covers 95 %."""


def work_of(cell: Cell) -> str:
    """A hash of a cell without its device and its number of threads."""
    return replace(cell, device="", num_threads=0).key


def compare_stored(
    base: Iterable[Stored], current: Iterable[Stored], threshold: float, family_error: float
) -> tuple[GateRow, ...]:
    """Rows of every cell of either side; one that only one side has is ``new`` or ``gone``.

    If a side holds a cell several times, the last one counts.

    Raises:
        ConfigError: the sides share no cell, or not under the same circumstances.
    """
    pairs, new, gone = _pair(base, current)
    num_timed = sum(
        None not in (before.time_over_softmax, after.time_over_softmax) for before, after in pairs
    )
    tail = confidence_tail(max(1, num_timed), family_error)
    rows = [row for pair in pairs for row in compare_pair(*pair, threshold, tail)]
    rows += [_without(one.cell, GateVerdict.NEW, "the base does not have it") for one in new]
    rows += [_without(one.cell, GateVerdict.GONE, "only the base has it") for one in gone]
    return tuple(rows)


def _without(cell: Cell, verdict: GateVerdict, reason: str) -> GateRow:
    return GateRow.of(cell, channel_of(cell), verdict, reason=reason)


def compare_pair(base: Stored, current: Stored, threshold: float, tail: float) -> list[GateRow]:
    """Rows of one cell: numbers without noise first, then its time."""
    cell = current.cell
    if current.failure is not None:
        verdict = GateVerdict.GONE if current.is_skipped else GateVerdict.BROKEN
        if base.failure is not None:
            verdict = GateVerdict.INCOMPARABLE
        return [_without(cell, verdict, f"the current side: {current.failure}")]
    if base.failure is not None:
        return [_without(cell, GateVerdict.INCOMPARABLE, f"the base: {base.failure}")]
    rows = exact_rows(cell, base.exact, current.exact)
    return rows if cell.is_task else [*rows, _time_row(base, current, threshold, tail)]


def _time_row(base: Stored, current: Stored, threshold: float, tail: float) -> GateRow:
    if base.time_over_softmax is None or current.time_over_softmax is None:
        why = current.why_untimed or base.why_untimed
        return GateRow.of(current.cell, LATENCY, GateVerdict.INCOMPARABLE, reason=why)
    ratio = quotient(base.time_over_softmax, current.time_over_softmax, tail)
    noisy = [name for name, side in (("base", base), ("current", current)) if side.is_noisy]
    return GateRow.timed(
        current.cell,
        judge(ratio, threshold),
        ratio,
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


def _pair(
    base: Iterable[Stored], current: Iterable[Stored]
) -> tuple[list[Pair], list[Stored], list[Stored]]:
    """Pairs of the same work under the same circumstances; then the unpaired of each side.

    Raises:
        ConfigError: there is no pair, or some work was measured under different circumstances only.
    """
    before, after = _by_work(base), _by_work(current)
    pairs: list[Pair] = []
    clashes: list[tuple[Circumstances, Circumstances, Cell]] = []
    for work, here in after.items():
        there = before.get(work, {})
        shared = [alike for alike in here if alike in there]
        pairs += [(there[alike], here[alike]) for alike in shared]
        if there and not shared:
            clashes.append((next(iter(there)), *next((a, one.cell) for a, one in here.items())))
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
    """The last numbers of each work under each of its circumstances."""
    found: dict[str, dict[Circumstances, Stored]] = defaultdict(dict)
    for one in cells:
        found[work_of(one.cell)][one.circumstances] = one
    return found


def _others(found: dict[str, dict[Circumstances, Stored]], paired: set[int]) -> list[Stored]:
    return [cell for cells in found.values() for cell in cells.values() if id(cell) not in paired]


def _refusal(clashes: Sequence[tuple[Circumstances, Circumstances, Cell]]) -> str:
    base, current, cell = clashes[0]
    differences = "; ".join(
        f"{name} is {_said(before)} in the base and {_said(after)} now"
        for name, before, after in zip(CIRCUMSTANCES, base, current, strict=True)
        if before != after
    )
    more = f", and {len(clashes) - 1} more" if len(clashes) > 1 else ""
    return (
        f"The two sides were not measured alike, so their numbers cannot be compared: "
        f"{differences} ({cell.describe()}{more}). Measure one of them again as the other was."
    )


def _said(value: object) -> str:
    return "not said" if value is None else str(value)
