"""What follows from the samples: ratios with intervals, floors, crossovers. Nothing is measured."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from bench.cell import Cell, KernelWorkload
from bench.mechanisms.data import Line, Measured, Session
from bench.mechanisms.units import FORMS, SAVED, SOFTMAX, Place
from bench.metrics import evaluate
from bench.record import Record, Speed, Status
from bench.statistics import Ratio, median, paired_ratio


@dataclass(frozen=True, kw_only=True)
class Row:
    """One entry at one place, as multiples of the time that others take there.

    Attributes:
        against: the form compared with: ``official``, or ``plain`` where there is none.
        latency_s: median of our form.
        ratio: our time over the other form's; below 1 is faster. Its interval is None with fewer
            than six rounds.
        softmax_ratio: our time over that of softmax attention; None if that was not measured.
        floor_fraction: the least time that this machine needs over ours; None if not calibrated.
        saved_bytes_per_token: kept between forward and backward, of all heads; None without.
        is_noisy: whether others used the machine meanwhile.
    """

    entry: str
    against: str
    place: Place
    latency_s: float
    ratio: Ratio
    softmax_ratio: Ratio | None
    floor_fraction: float | None
    saved_bytes_per_token: float | None
    is_noisy: bool

    @property
    def is_slower(self) -> bool:
        """Whether the whole interval says that our form is slower than the other."""
        return self.ratio.low is not None and self.ratio.low > 1


@dataclass(frozen=True, kw_only=True)
class Crossover:
    """The sequence length from which on an entry is faster than softmax attention, forward.

    Attributes:
        place: without its length, which is 0.
        ours, other: by our form and by the other; the shortest length that was measured if it is
            faster there already, and None if it is at none.
    """

    entry: str
    against: str
    place: Place
    ours: float | None
    other: float | None


def rows_of(measured: Measured) -> tuple[Row, ...]:
    """A row for each entry and place at which both of its forms were timed."""
    beside = dict(_softmax_ratios(measured))
    saved = dict(_saved_per_token(measured))
    rows = []
    for line, place in _lines(measured, FORMS):
        for index in range(0, len(line["members"]), 2):
            entry, other = line["members"][index : index + 2]
            ratio = _time_ratio(line, index, index + 1)
            if ratio is None:
                continue
            record = _record(line, index, place, measured.session)
            rows.append(
                Row(
                    entry=entry,
                    against=other.removeprefix(f"{entry} "),
                    place=place,
                    latency_s=float(median(_column(line, index)) or 0.0),
                    ratio=ratio,
                    softmax_ratio=beside.get((entry, place)),
                    floor_fraction=_floor_fraction(record),
                    saved_bytes_per_token=(
                        saved.get((entry, place.scope, place.causal, place.seq_len))
                        if place.mode == "forward_backward"
                        else None
                    ),
                    is_noisy=line["is_noisy"],
                )
            )
    return tuple(rows)


def failures_of(measured: Measured) -> tuple[str, ...]:
    """What could not be measured, and why."""
    return tuple(
        f"{line['part']} {', '.join(line['members'])} at {line['place']}: {line['reason']}"
        for line in measured.lines
        if line["reason"] is not None
    )


def _lines(measured: Measured, part: str) -> Iterator[tuple[Line, Place]]:
    for line in measured.lines:
        if line["part"] == part and line["reason"] is None:
            yield line, Place(**line["place"])


def _softmax_ratios(measured: Measured) -> Iterator[tuple[tuple[str, Place], Ratio]]:
    for line, place in _lines(measured, SOFTMAX):
        *entries, _ = line["members"]
        for index, entry in enumerate(entries):
            ratio = _time_ratio(line, index, len(entries))
            if ratio is not None:
                yield (entry, place), ratio


def _saved_per_token(measured: Measured) -> Iterator[tuple[tuple[str, str, bool, int], float]]:
    batch_size = measured.session.settings["shape"]["batch_size"]
    for line, place in _lines(measured, SAVED):
        for entry, num_bytes in zip(line["members"], line["saved_bytes"], strict=True):
            key = (entry, place.scope, place.causal, place.seq_len)
            yield key, num_bytes / (batch_size * place.seq_len)


def _column(line: Line, index: int) -> list[float]:
    return [samples[index] for samples in line["rounds"]]


def _time_ratio(line: Line, index: int, other: int) -> Ratio | None:
    """One member's time over another's, within rounds."""
    numbers = range(len(line["rounds"]))
    return paired_ratio(_column(line, other), numbers, _column(line, index), numbers)


def _record(line: Line, index: int, place: Place, session: Session) -> Record:
    """A member as a sweep would have recorded it: the metrics are the same."""
    shape: dict[str, Any] = session.settings["shape"]
    workload = KernelWorkload(
        **shape, seq_len=place.seq_len, mode=place.mode, causal=place.causal, scope=place.scope
    )
    return Record(
        cell=Cell(
            entry=line["members"][index],
            mechanism=line["members"][index],
            hyperparameters={},
            device="cpu",
            num_threads=place.num_threads,
            workload=workload,
        ),
        status=Status.OK,
        reason=None,
        result=Speed(
            latency_s=tuple(_column(line, index)),
            rounds=tuple(range(len(line["rounds"]))),
            flops=line["flops"][index],
            num_parameters=line["num_parameters"][index],
            tokens_per_call=workload.batch_size * workload.seq_len,
        ),
        environment=session.environments[place.allocator],
        freshness="",
        started_at=session.started_at,
    )


def _floor_fraction(record: Record) -> float | None:
    value = evaluate(record, ["roofline_fraction"])["roofline_fraction"]
    return value if isinstance(value, float) else None


def crossovers_of(rows: Sequence[Row]) -> tuple[Crossover, ...]:
    """Of each entry forward, between the sequence lengths at which it was measured.

    The other form is not timed beside softmax: its ratio is the quotient of our two.
    """

    def place_of(row: Row) -> tuple[Any, ...]:
        at = row.place
        return (row.entry, row.against, at.scope, at.causal, at.num_threads, at.allocator)

    forward = [r for r in rows if r.place.mode == "forward" and r.softmax_ratio is not None]
    found = []
    for key, group in itertools.groupby(sorted(forward, key=place_of), place_of):
        entry, against, scope, causal, num_threads, allocator = key
        ours: list[tuple[int, float]] = []
        other: list[tuple[int, float]] = []
        for row in sorted(group, key=lambda row: row.place.seq_len):
            assert row.softmax_ratio is not None
            ours.append((row.place.seq_len, row.softmax_ratio.median))
            other.append((row.place.seq_len, row.softmax_ratio.median / row.ratio.median))
        place = Place(
            scope=scope,
            causal=causal,
            seq_len=0,
            mode="forward",
            num_threads=num_threads,
            allocator=allocator,
        )
        found.append(
            Crossover(
                entry=entry,
                against=against,
                place=place,
                ours=crossing(ours),
                other=crossing(other),
            )
        )
    return tuple(found)


def crossing(ratios: Sequence[tuple[int, float]]) -> float | None:
    """Where a ratio falls to 1, on straight lines between the logarithms of lengths and ratios.

    The first length if the ratio is 1 or less there; None if it is so nowhere.
    """
    if ratios and ratios[0][1] <= 1:
        return float(ratios[0][0])
    for (left, above), (right, below) in itertools.pairwise(ratios):
        if above > 1 >= below:
            share = math.log(above) / (math.log(above) - math.log(below))
            return math.exp(math.log(left) + share * (math.log(right) - math.log(left)))
    return None
