"""Stored numbers that ``baseline=`` and ``current=`` name: a store, or files of records.

Of a record a comparison needs its ratio to softmax with an interval, and the numbers without noise.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.core.cell import Cell
from bench.core.cli.errors import ConfigError
from bench.core.record import REFERENCE, Record, Speed, Status
from bench.core.statistics import MIN_ROUNDS, median, paired_ratio
from bench.core.store import read_packed, read_store, records_folder
from bench.studies.gate.exact import EXACT, by_channel
from bench.studies.gate.verdict import Interval

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
        ConfigError: there is nothing there, or nothing that holds records.
    """
    if os.path.isdir(records_folder(path)):
        contents = read_store(path)
        if contents.is_damaged:  # a verdict on the rest would look more complete than it is
            raise ConfigError("\n".join([f"{key}={path} is damaged.", *contents.describe()]))
        return side_of_records(contents.records, str(path))
    files = [path]
    if os.path.isdir(path):
        files = sorted([*path.glob("*.jsonl"), *path.glob("*.jsonl.gz")])
    found = [record for file in files for record in _records_in(key, file)]
    if not found:
        raise ConfigError(f"{key}={path} holds no records. It takes {KINDS}.")
    return side_of_records(found, str(path))


def _records_in(key: str, file: Path) -> Iterator[Record]:
    """The records of a file; a last line that a crash cut short is skipped."""
    if file.suffix == ".gz":
        yield from read_packed(file)
        return
    try:
        lines = file.read_text("utf-8").split("\n")
    except FileNotFoundError as error:
        raise ConfigError(f"{key}={file} is not there. It takes {KINDS}.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{key}={file} cannot be read: {error}. It takes {KINDS}.") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = Record.from_json(line)
        except ValueError as error:
            if number == len(lines):  # no newline follows: it was being written
                return
            raise ConfigError(
                f"{file}:{number} is not a record ({error}). It takes {KINDS}."
            ) from error
        yield record
