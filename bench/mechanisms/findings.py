"""What follows from the samples: ratios with intervals, and floors. Nothing is measured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from bench.cell import Cell, KernelWorkload
from bench.mechanisms.data import Line, Measured, Session
from bench.mechanisms.floors import floor_fraction, floor_fraction_by_mm
from bench.mechanisms.units import FORMS, ONE_THREAD, SAVED, SOFTMAX, THREADS, Place
from bench.record import Record, Speed, Status
from bench.statistics import Ratio, median, paired_ratio


@dataclass(frozen=True, kw_only=True)
class Row:
    """One entry at one place, as multiples of the time that others take there.

    Attributes:
        against: the form compared with: ``official``, or ``plain`` where there is none; or
            `ONE_THREAD`, our form itself with one thread, where the place has several.
        latency_s: median of our form.
        ratio: our time over that of what it is compared with; below 1 is faster. Its interval is
            None with fewer than six rounds.
        softmax_ratio: our time over that of softmax attention; None if that was not measured.
        floor_fraction: the least time that this machine needs over ours; None if not calibrated.
        floor_fraction_by_mm: the same with products at the rate of ``torch.mm``, which may be less
            than that of another library; above 1 where our form uses the other one.
        is_slower: whether the whole interval says that our form is slower than what it is beside,
            and the second time as well; see `is_slower`.
        saved_bytes_per_token: kept between forward and backward, of all heads; None without.
        is_noisy: whether others used the machine meanwhile.
    """

    entry: str
    against: str
    place: Place
    latency_s: float
    ratio: Ratio
    is_slower: bool
    softmax_ratio: Ratio | None = None
    floor_fraction: float | None = None
    floor_fraction_by_mm: float | None = None
    saved_bytes_per_token: float | None = None
    is_noisy: bool

    @property
    def is_of_threads(self) -> bool:
        """Whether it compares numbers of threads, and not forms."""
        return self.against == ONE_THREAD


def rows_of(measured: Measured) -> tuple[Row, ...]:
    """A row for each entry and place at which both of its forms were timed.

    Then one for each at which it was timed with several threads and with one.
    """
    return (*_form_rows(measured), *_thread_rows(measured))


def _form_rows(measured: Measured) -> Iterator[Row]:
    beside = dict(_softmax_ratios(measured))
    saved = dict(_saved_per_token(measured))
    for line, index, row in _pair_rows(measured, FORMS):
        place = row.place
        record = _record(line, index, place, measured.session)
        yield replace(
            row,
            softmax_ratio=beside.get((row.entry, place)),
            floor_fraction=floor_fraction(record),
            floor_fraction_by_mm=floor_fraction_by_mm(record),
            saved_bytes_per_token=(
                saved.get((row.entry, place.scope, place.causal, place.seq_len))
                if place.mode == "forward_backward"
                else None
            ),
        )


def _thread_rows(measured: Measured) -> Iterator[Row]:
    return (row for _, _, row in _pair_rows(measured, THREADS))


def _pair_rows(measured: Measured, part: str) -> Iterator[tuple[Line, int, Row]]:
    """A line, where in it a pair begins, and the first of the pair over the second."""
    for line, place in _lines(measured, part):
        for index in range(0, len(line["members"]), 2):
            entry, other = line["members"][index : index + 2]
            ratio = _time_ratio(line, index, index + 1)
            if ratio is not None:
                row = Row(
                    entry=entry,
                    against=other.removeprefix(f"{entry} "),
                    place=place,
                    latency_s=float(median(_column(line, index)) or 0.0),
                    ratio=ratio,
                    is_slower=_is_slower(line, index, index + 1),
                    is_noisy=line["is_noisy"],
                )
                yield line, index, row


def is_slower(line: Line) -> bool:
    """Whether a unit's first member is slower than its second by the whole interval of their ratio.

    Where that was found, and measured again in other processes, these must say so by themselves: of
    hundreds of pairs that are equally fast some are slower by chance, but hardly one twice.
    """
    return line["reason"] is None and "rounds" in line and _is_slower(line, 0, 1)


def _is_slower(line: Line, index: int, other: int) -> bool:
    ratios = [_time_ratio(part, index, other) for part in _apart(line)]
    return all(ratio is not None and ratio.low is not None and ratio.low > 1 for ratio in ratios)


def _apart(line: Line) -> Iterator[Line]:
    """What was measured first, and what was measured to confirm it, if anything was."""
    first_of_second = line.get("confirmed_from")
    if first_of_second is None:
        yield line
        return
    numbered = list(zip(line["rounds"], line["processes"], strict=True))
    for is_second in (False, True):
        part = [pair for pair in numbered if (pair[1] >= first_of_second) == is_second]
        yield line | {"rounds": [one for one, _ in part], "processes": [n for _, n in part]}


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
    """One member's time over another's: within processes, or within the rounds of a single one."""
    numbers = line["processes"]
    if len(set(numbers)) == 1:
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
