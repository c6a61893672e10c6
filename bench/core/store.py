"""Records on disk: JSON lines, one file per sweep process, appended and synced."""

from __future__ import annotations

import errno
import gzip
import os
import re
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.core.cli.errors import ConfigError, say_once
from bench.core.cli.files import append_whole, is_torn, write_all
from bench.core.cli.limits import MAX_LINE_BYTES
from bench.core.cli.stored_files import MAX_LINES_BYTES, check_inside, open_regular, regular_files
from bench.core.cli.texts import visible
from bench.core.record import NewerSchema, Record

_RECORD_START = b'{"entry":'
"""Beginning of every line, also of one that a crash cut short."""

_FILES = "records/*.jsonl"

_SPACE_BYTES = 2**18
"""Bytes that must be free: a dozen records or more, and the tables of a small sweep."""


class StoreError(ConfigError):
    """A record could not be written, for example because the disk is full."""


class Store:
    """Appends records to ``<out>/records/<name>.jsonl``.

    Every process needs a name of its own: two that append to one file would interleave.

    Raises:
        ConfigError: the file leads out of `out`.
        StoreError: `out` cannot be written to.
        ValueError: the name is not a plain file name.
    """

    def __init__(self, out: Path, name: str) -> None:
        if Path(name).name != name or not name.strip("."):
            raise ValueError(f"Store name {name!r} must be a plain file name, without folders.")
        self.out = out
        self.name = name
        self.path = records_folder(out) / f"{name}.jsonl"
        check_inside(out, self.path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _cannot("make the folder", self.path.parent, error) from error
        if not os.access(self.path.parent, os.W_OK | os.X_OK):
            raise StoreError(
                f"No permission to write in {self.path.parent}. Choose another out=DIR."
            )

    def check_space(self) -> None:
        """Write some bytes and delete them: a full disk is reported before hours of measuring.

        Raises:
            StoreError: they could not be written.
        """
        probe = self.path.with_suffix(".space")
        try:
            with open(probe, "wb", buffering=0) as file:
                write_all(file, bytes(_SPACE_BYTES))
                os.fsync(file.fileno())
        except OSError as error:
            raise _cannot(f"write {_SPACE_BYTES >> 10} KiB to", probe, error) from error
        finally:
            with suppress(OSError):
                probe.unlink()

    def append(self, record: Record) -> None:
        """Write one line, and return once it is on disk.

        Raises:
            StoreError: it could not be written; what was written before is intact.
        """
        line = record.to_json().encode() + b"\n"
        try:
            if append_whole(self.path, line, _RECORD_START):
                say_once(
                    f"{self.path} ended in a torn line, which was removed before new records were "
                    "appended."
                )
        except OSError as error:
            raise _cannot("append a record to", self.path, error) from error


def records_folder(out: Path) -> Path:
    """The folder ``<out>/records``."""
    return out / "records"


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line of a store: the record that it holds, or the reason why it cannot be used.

    Attributes:
        number: of the line, from 1.
        start, size: offset and length in bytes, with the newline where there is one.
        record: None if the line holds none that can be used.
        problem: the reason, in words; None if there is a record.
        is_torn: whether a crash cut the record short, or left zeros in its place.
        is_newer: whether a newer attnbench wrote it.
    """

    file: Path
    number: int
    start: int
    size: int
    record: Record | None = None
    problem: str | None = None
    is_torn: bool = False
    is_newer: bool = False

    @property
    def place(self) -> str:
        """As ``results/records/a.jsonl:12``."""
        return f"{self.file}:{self.number}"

    @property
    def why_left_out(self) -> str:
        """A sentence about a line without a record."""
        return f"{self.place} is left out: {self.problem}."

    def read(self) -> bytes:
        """Read its bytes again from the file.

        Raises:
            ConfigError: the file cannot be read any more.
        """
        try:
            with open_regular(self.file) as content:
                content.seek(self.start)
                return content.read(self.size)
        except OSError as error:
            raise ConfigError(f"{self.file} cannot be read: {error.strerror}.") from error


@dataclass(frozen=True, kw_only=True)
class StoreContents:
    """All records of a store, and the lines that are left out."""

    records: tuple[Record, ...]
    left_out: tuple[Line, ...]

    @property
    def is_damaged(self) -> bool:
        """Whether lines are left out that no crash in the middle of a write explains."""
        return not all(line.is_torn for line in self.left_out)

    def describe(self) -> list[str]:
        """A sentence for each line left out; of many, the first ones and the number of others."""
        said = [line.why_left_out for line in self.left_out[:MAX_NAMED]]
        more = len(self.left_out) - len(said)
        return [*said, f"{more:,} more lines are left out."] if more else said


MAX_NAMED = 20
"""Largest number of lines that one message names."""


def stores_below(root: Path) -> list[Path]:
    """The folder and those below it that sweeps have written to.

    Folders that are links are not entered.

    Raises:
        ConfigError: there is none with a line in it, or ``records`` leads elsewhere.
    """
    outs = sorted(Path(here) for here, folders, _ in os.walk(root) if "records" in folders)
    found = [out for out in outs if any(True for _ in read_lines(out))]
    if not found:
        above = f" Name {root.parent}, the folder above it." * (root.name == "records")
        raise ConfigError(f"There are no records under {root}.{above}")
    return found


def read_store(out: Path, *, missing_ok: bool = False) -> StoreContents:
    """All records under `out`, in the order of file names and lines, and what is left out.

    Raises:
        ConfigError: there are no records, or a file is unreadable.
    """
    records, left_out = [], []
    for line in read_lines(out):
        if line.record is None:
            left_out.append(line)
        else:
            records.append(line.record)
    contents = StoreContents(records=tuple(records), left_out=tuple(left_out))
    if records or missing_ok:
        return contents
    folder = records_folder(out)
    if left_out:
        none = f"No line under {folder} is a record that can be used. Set out=DIR to another."
        raise ConfigError("\n".join([none, *contents.describe()]))
    raise ConfigError(f"There are no records under {folder}; run a sweep first, or set out=DIR.")


def read_records(out: Path, *, missing_ok: bool = False) -> tuple[Record, ...]:
    """Records of `read_store`; lines left out are reported on stderr, once."""
    contents = read_store(out, missing_ok=missing_ok)
    for words in contents.describe():
        say_once(words)
    return contents.records


def read_packed(file: Path) -> Iterator[Record]:
    """Records of a gzip file, as in docs/results; none if there is no such file.

    Lines that a newer attnbench wrote are left out.

    Raises:
        ConfigError: it is not a gzip file, or a line is not a record.
    """
    try:
        with open_regular(file) as packed, gzip.open(packed) as lines:
            while line := lines.readline(MAX_LINE_BYTES):
                with suppress(NewerSchema):
                    yield Record.from_json(line)
    except (FileNotFoundError, NotADirectoryError):
        return
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise ConfigError(
            f"{file} holds no records that can be read: {error}. Take it out of the folder."
        ) from error


def read_lines(out: Path) -> Iterator[Line]:
    """Every line under `out` that is not blank, in the order of file names and lines.

    Raises:
        ConfigError: a file is unreadable.
    """
    for file in regular_files(out, _FILES):
        yield from lines_of(file)


class Tail:
    """Reader of the records that others append to `out` from now on."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._own: str | None = None
        self._read = {file.name: os.path.getsize(file) for file in regular_files(out, _FILES)}

    def leave_out(self, store: Store) -> None:
        """Skip what `store` writes."""
        self._own = store.path.name

    def read(self) -> Iterator[Record]:
        """Read the records added since the last call.

        A line that is not complete yet is left for the next call. A line without a record is
        skipped; `read_store` reports it.
        """
        for file in regular_files(self._out, _FILES):
            if file.name != self._own:
                for line in self._new_lines(file):
                    with suppress(ValueError):
                        yield Record.from_json(line)

    def _new_lines(self, file: Path) -> list[bytes]:
        before = self._read.get(file.name, 0)
        if file.stat().st_size <= before:
            return []
        with open(file, "rb") as lines:
            lines.seek(before)
            whole, newline, _ = lines.read().rpartition(b"\n")
        self._read[file.name] = before + len(whole) + len(newline)
        return whole.split(b"\n")


_PLACE = re.compile(rb'"key":"(\w+)".*?"started_at":"([^"]*)"')


def line_numbers(out: Path) -> dict[tuple[str, str], tuple[Path, int]]:
    """File and line of each record under `out`, by the key of its cell and when it started."""
    found = {}
    for file in regular_files(out, _FILES):
        with open(file, "rb") as lines:
            for number, line in enumerate(lines, start=1):
                if said := _PLACE.search(line):
                    found[said[1].decode(), said[2].decode()] = (file, number)
    return found


def latest(records: Iterable[Record]) -> list[Record]:
    """The newest record of each cell, entry and machine, in order of first appearance.

    Scores do not depend on the machine: for a cell that trains, the newest record of any machine
    counts. Of records that started at the same time, the later one in `records` wins.
    """
    newest: dict[tuple[object, ...], Record] = {}
    for record in records:
        devices = record.environment.get("devices", {})
        machine = (record.environment.get("processor"), devices.get(record.cell.device))
        identity = (record.cell.key, record.cell.entry, *(() if record.cell.is_task else machine))
        known = newest.get(identity)
        if known is None or record.started_at >= known.started_at:
            newest[identity] = record
    return list(newest.values())


def lines_of(file: Path) -> Iterator[Line]:
    """All lines of a file of records that are not blank.

    Raises:
        ConfigError: the file is unreadable, or too large.
    """
    try:
        with open_regular(file) as content:
            if (size := os.fstat(content.fileno()).st_size) > MAX_LINES_BYTES:
                raise ConfigError(
                    f"{file} has {size:,} bytes; a file of records has at most "
                    f"{MAX_LINES_BYTES:,}. Take it out of the folder, or split it."
                )
            number = end = 0
            while beginning := content.readline(MAX_LINE_BYTES + 2):
                rest = beginning
                while len(rest) > MAX_LINE_BYTES and not rest.endswith(b"\n"):
                    rest = content.readline(MAX_LINE_BYTES + 2)
                number, start, end = number + 1, end, content.tell()
                if beginning.strip():
                    place = {"number": number, "start": start, "size": end - start}
                    yield _read(beginning, file=file, **place)
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}.") from error


def _read(line: bytes, **place: Any) -> Line:
    """Parse a line; if it is too long for a record, its beginning is enough."""
    try:
        return Line(record=Record.from_json(line), **place)
    except ValueError as error:
        problem, is_newer = visible(str(error).rstrip("."), 500), isinstance(error, NewerSchema)
    if not line.endswith(b"\n") and is_torn(line, _RECORD_START):
        problem = "it is torn, as by a crash while it was written"
        return Line(problem=problem, is_torn=True, **place)
    return Line(problem=problem, is_newer=is_newer, **place)


def _cannot(what: str, path: Path, error: OSError) -> StoreError:
    mend = (
        "Free some space and start the sweep again: what was measured so far is kept."
        if error.errno in (errno.ENOSPC, errno.EDQUOT)
        else "Choose another out=DIR."
    )
    return StoreError(f"Cannot {what} {path}: {error.strerror or error}. {mend}")
