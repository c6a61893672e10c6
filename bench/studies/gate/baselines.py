"""Baselines: one line per measurement of a machine class, in a file that is kept in git.

A line holds what a comparison needs and no samples: per cell the ratio to softmax with its
interval, and the numbers without noise. ``<out>/baselines/<machine class>.jsonl``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from bench.core.cell import Cell
from bench.core.cli.errors import ConfigError
from bench.core.cli.files import write_whole
from bench.core.cli.limits import parsed
from bench.core.cli.stored_files import read_regular
from bench.core.record import Record
from bench.studies.gate.recorded import stored
from bench.studies.gate.rows import ACCURACY, LATENCY
from bench.studies.gate.stored import Circumstances, Side, Stored, work_of
from bench.studies.gate.verdict import Interval

T = TypeVar("T")

BASELINE_VERSION = 1
"""Raised when a field of a line changes."""

_LINE_START = '{"baseline_version":'


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A machine class: numbers of two of them are not compared."""

    processor: str
    num_cores: int
    device: str
    allocator: str

    @property
    def slug(self) -> str:
        """A file name that says it, such as ``amd-epyc-7b13-2-cores-cpu-retain``."""
        device = "cpu" if self.device == self.processor else self.device
        words = f"{self.processor} {self.num_cores} cores {device} {self.allocator}".lower()
        words = re.sub(r"\((r|tm|c)\)", " ", words)
        return re.sub(r"[^a-z0-9]+", "-", words).strip("-")


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """One line.

    Attributes:
        commit: that was measured.
        date: UTC, ISO 8601.
        versions: of Python and the libraries that can move a number.
    """

    commit: str
    date: str
    method_version: int
    machine: Machine
    versions: Mapping[str, Any]
    cells: tuple[tuple[Cell, Stored], ...]

    def to_json(self) -> str:
        """One line."""
        line = {
            "baseline_version": BASELINE_VERSION,
            "commit": self.commit,
            "date": self.date,
            "method_version": self.method_version,
            "machine": asdict(self.machine),
            "versions": dict(self.versions),
            "cells": [_cell_line(cell, numbers) for cell, numbers in self.cells],
        }
        return json.dumps(line, separators=(",", ":"), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Baseline:
        """The inverse of `to_json`.

        Raises:
            ValueError: not a baseline.
        """
        try:
            line = parsed(text)
            if line["baseline_version"] > BASELINE_VERSION:
                raise ValueError(f"a newer attnbench wrote it (form {line['baseline_version']})")
            machine = Machine(**line["machine"])
            method_version = int(line["method_version"])
            return cls(
                commit=line["commit"],
                date=line["date"],
                method_version=method_version,
                machine=machine,
                versions=dict(line["versions"]),
                cells=tuple(_read_cell(flat, machine, method_version) for flat in line["cells"]),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a baseline: {error!r}") from error


def baselines_of(records: Sequence[Record]) -> list[Baseline]:
    """A baseline for each device that one sweep's records are of."""
    by_device: dict[str, list[Record]] = {}
    for record in records:
        by_device.setdefault(record.cell.device, []).append(record)
    return [_baseline(device, of_device) for device, of_device in by_device.items()]


def _baseline(device: str, records: Sequence[Record]) -> Baseline:
    facts = records[0].environment
    return Baseline(
        commit=facts["commit"],
        date=max(record.started_at for record in records),
        method_version=records[0].method_version,
        machine=Machine(
            processor=facts["processor"],
            num_cores=facts["num_cores"],
            device=facts["devices"].get(device, device),
            allocator=facts["allocator"],
        ),
        versions=facts["versions"],
        cells=tuple((record.cell, stored(record)) for record in records),
    )


def _cell_line(cell: Cell, numbers: Stored) -> dict[str, Any]:
    time = numbers.time
    return {
        "cell": cell.to_dict(),
        "time_over_softmax": None if time is None else [time.median, time.low, time.high],
        "why_untimed": numbers.why_untimed,
        "latency_s": numbers.latency_s,
        "exact": dict(numbers.exact),
        "failure": numbers.failure,
        "is_skipped": numbers.is_skipped,
        "is_noisy": numbers.is_noisy,
    }


def _read_cell(
    flat: Mapping[str, Any], machine: Machine, method_version: int
) -> tuple[Cell, Stored]:
    cell = Cell.from_dict(flat["cell"])
    time = flat["time_over_softmax"]
    return cell, Stored(
        entry=cell.entry,
        mechanism=cell.mechanism,
        key=cell.key,
        words=cell.describe(),
        work=work_of(cell),
        circumstances=Circumstances(
            method_version=method_version,
            processor=machine.processor,
            device=machine.device,
            allocator=machine.allocator,
            num_threads=cell.num_threads,
        ),
        time=None if time is None else Interval(median=time[0], low=time[1], high=time[2]),
        why_untimed=flat["why_untimed"],
        latency_s=flat["latency_s"],
        exact=dict(flat["exact"]),
        failure=flat["failure"],
        is_skipped=flat["is_skipped"],
        is_noisy=flat["is_noisy"],
        channel=ACCURACY if cell.is_task else LATENCY,
    )


def is_baseline_line(line: str) -> bool:
    """Whether a line claims to be a baseline."""
    return line.startswith(_LINE_START)


def baselines_folder(out: Path) -> Path:
    """Where the baselines of `out` are."""
    return out / "baselines"


def append_baseline(baseline: Baseline, out: Path) -> Path:
    """Add a line to the file of its machine class.

    Raises:
        ConfigError: the file cannot be written, or is not one of baselines.
    """
    file = baselines_folder(out) / f"{baseline.machine.slug}.jsonl"
    before = ""
    if file.exists():
        read_baselines(file)  # refuses to add to what is no such file
        before = read_regular(file).decode().rstrip("\n") + "\n"
    return write_whole(file, before + baseline.to_json() + "\n", inside=out)


def read_baselines(file: Path) -> tuple[Baseline, ...]:
    """All lines of a file, oldest first.

    Raises:
        ConfigError: it cannot be read, or is not one of baselines.
    """
    found = read_lines(file, Baseline.from_json, "a baseline")
    return tuple(sorted(found, key=lambda baseline: baseline.date))


def read_lines(file: Path, parse: Callable[[str], T], what: str) -> Iterator[T]:
    """Parse each line of a file; empty ones are skipped.

    Raises:
        ConfigError: it cannot be read, or a line holds something else.
    """
    try:
        lines = read_regular(file).decode().splitlines()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file} cannot be read: {error}.") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            yield parse(line)
        except (ValueError, TypeError) as error:
            raise ConfigError(
                f"{file}:{number} is not {what} ({error}). Mend it, or take the line out."
            ) from error


def side_of_baseline(baseline: Baseline, file: Path) -> Side:
    """A line as one side of a comparison."""
    return Side(
        words=f"{file}, commit {baseline.commit[:12]} of {baseline.date[:10]}",
        commit=baseline.commit,
        cells=tuple(numbers for _, numbers in baseline.cells),
        torch=frozenset([str(baseline.versions.get("torch"))]),
    )
