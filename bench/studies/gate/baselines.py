"""Baselines: measured cells summarised without their samples, one JSON line per measurement.

A comparison needs no more than this: per cell the ratio to softmax with its interval, and the
numbers without noise. Records become baselines before they are compared. Stored baselines lie in
``<out>/baselines/<machine class>.jsonl``, which is kept in git.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Interval

from bench.core.cell import Cell
from bench.core.cli.limits import Amount, Duration, Rule, Size, Text, Through
from bench.core.facts import Words
from bench.core.lines import Lines
from bench.core.record import REFERENCE, Record, Speed, Status
from bench.core.statistics import MIN_ROUNDS, median, paired_ratio
from bench.studies.gate.exact import EXACT, by_channel
from bench.studies.gate.verdict import Interval as Ends

BASELINE_VERSION = 1
"""Raised when a field of a line changes."""

MEND = "Mend it, or take the line out."
_LINE_START = '{"baseline_version":'

Exact = Annotated[int, Interval(ge=0, le=10**31)] | Amount
"""A number without noise."""


def _is_ratio(ends: Ends) -> bool:
    return all(1e-24 <= end <= 1e24 for end in ends)


_Ratio = Annotated[Ends, Rule(_is_ratio, "a ratio and its ends, each from 1e-24 to 1e24")]


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A class of machines; fields that the records lack are None."""

    processor: Text | None
    num_cores: Size | None
    device: Text | None
    allocator: Text | None

    @property
    def slug(self) -> str:
        """Name of its file without suffix, such as ``amd-epyc-7b13-2-cores-cpu-retain``."""
        device = "cpu" if self.device == self.processor else self.device
        words = f"{self.processor} {self.num_cores} cores {device} {self.allocator}".lower()
        words = re.sub(r"\((r|tm|c)\)", " ", words)
        return re.sub(r"[^a-z0-9]+", "-", words).strip("-")


def _read_cell(flat: Any) -> Cell:
    if not isinstance(flat, dict):
        raise ValueError("it is no JSON object")
    return Cell.from_dict(flat)


@dataclass(frozen=True, kw_only=True)
class Stored:
    """Numbers of one cell.

    Attributes:
        time_over_softmax: seconds per second of softmax in the same rounds, with a 95 % interval.
        why_untimed: why that ratio is missing.
        latency_s: median seconds per call, for orientation.
        exact: the numbers without noise, by channel.
        failure: status and reason of a cell that failed, which then has no numbers.
        is_skipped: it was not tried, because it is unsupported or would not fit into memory.
        is_noisy: other programs kept the machine busy.
    """

    cell: Annotated[Cell, Through(_read_cell, Cell.to_dict)]
    time_over_softmax: _Ratio | None
    why_untimed: Text | None
    latency_s: Duration | None
    exact: dict[Text, Exact]
    failure: Text | None
    is_skipped: bool
    is_noisy: bool


_Version = Annotated[
    int, Rule(lambda form: form <= BASELINE_VERSION, "1 at most: a newer attnbench wrote it")
]


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """Cells that were measured on one machine, of one commit, with one set of versions.

    Attributes:
        commit: the measured commit; None if the records lack it.
        date: UTC, ISO 8601.
        versions: of Python and the libraries that can move a number.
    """

    baseline_version: _Version = BASELINE_VERSION
    commit: Text | None
    date: Text
    method_version: Size
    machine: Machine
    versions: Words
    cells: tuple[Stored, ...]


def baselines_of(records: Iterable[Record]) -> tuple[Baseline, ...]:
    """One baseline for each run of consecutive records with equal machine, commit and versions."""
    found = []
    for setting, some in groupby(records, key=_setting):
        own = tuple(some)
        date = max(record.started_at for record in own)
        found.append(Baseline(date=date, cells=tuple(map(stored, own)), **setting))
    return tuple(found)


def _setting(record: Record) -> dict[str, Any]:
    facts, device = record.environment, record.cell.device
    return {
        "commit": facts.get("commit"),
        "method_version": record.method_version,
        "machine": Machine(
            processor=facts.get("processor"),
            num_cores=facts.get("num_cores"),
            device=facts.get("devices", {}).get(device, device),
            allocator=facts.get("allocator"),
        ),
        "versions": facts.get("versions", {}),
    }


def stored(record: Record) -> Stored:
    """The numbers of one record."""
    result = record.result
    time, why_untimed = time_over_softmax(result) if isinstance(result, Speed) else (None, None)
    fields = {name: getattr(result, name, None) for name in (*EXACT, "unit")}
    return Stored(
        cell=record.cell,
        time_over_softmax=time,
        why_untimed=why_untimed,
        latency_s=median(result.latency_s) if isinstance(result, Speed) else None,
        exact=by_channel(fields),
        failure=None if result is not None else f"{record.status}: {record.reason}",
        is_skipped=record.status is Status.SKIPPED,
        is_noisy=isinstance(result, Speed) and result.is_noisy,
    )


def time_over_softmax(speed: Speed) -> tuple[Ends | None, str | None]:
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
    return Ends(median=1 / faster.median, low=1 / faster.high, high=1 / faster.low), None


def is_baseline_line(line: str) -> bool:
    """Whether a line claims to be a baseline."""
    return line.startswith(_LINE_START)


def baselines_folder(out: Path) -> Path:
    """Folder of the baselines under `out`."""
    return out / "baselines"


def append_baseline(baseline: Baseline, out: Path) -> Path:
    """Add a line to the file of its machine class.

    Raises:
        ConfigError: the file cannot be written, or holds something other than baselines.
    """
    file = baselines_folder(out) / f"{baseline.machine.slug}.jsonl"
    if file.exists():
        read_baselines(file)  # raises if it holds something else
    Lines[Baseline](file, Baseline, root=out).append(baseline)
    return file


def read_baselines(file: Path) -> tuple[Baseline, ...]:
    """Baselines of a file, oldest first.

    Raises:
        ConfigError: it cannot be read, or holds something other than baselines.
    """
    return tuple(sorted(_lines(file).read(), key=lambda baseline: baseline.date))


def _lines(file: Path) -> Lines[Baseline]:
    own = file.resolve() if file.is_symlink() else file  # a user may name a link
    return Lines[Baseline](own, Baseline, mend=MEND)
