"""The disk's one door for records: JSON lines, one file per sweep process, appended and synced."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import cache
from io import RawIOBase
from pathlib import Path

from bench.app.errors import ConfigError
from bench.record import SCHEMA_VERSION, Record

_RECORD_START = b'{"entry":'
"""How every line of ours begins; a line torn by a crash begins so too."""

_SPACE_BYTES = 2**18
"""Room for a dozen records or more, and for the tables of a small sweep."""

Warn = Callable[[str], None]


class StoreError(ConfigError):
    """A record could not be written, for example because the disk is full."""


@cache
def _say_once(text: str) -> None:
    print(text, file=sys.stderr)


class Store:
    """Appends records to ``<out>/records/<name>.jsonl``.

    Every process needs a name of its own: two that append to one file would interleave.

    Raises:
        StoreError: `out` cannot be written to.
        ValueError: the name is not a plain file name.
    """

    def __init__(self, out: Path, name: str) -> None:
        if Path(name).name != name or not name.strip("."):
            raise ValueError(f"Store name {name!r} must be a plain file name, without folders.")
        self.out = out
        self.name = name
        self.path = records_folder(out) / f"{name}.jsonl"
        self._is_ready = False
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _cannot("make the folder", self.path.parent, error) from error
        if not os.access(self.path.parent, os.W_OK | os.X_OK):
            raise StoreError(
                f"No permission to write in {self.path.parent}. Choose another out=DIR."
            )

    def check_space(self) -> None:
        """Write some bytes and take them back: a full disk is told before hours of measuring.

        Raises:
            StoreError: they could not be written.
        """
        probe = self.path.with_suffix(".space")
        try:
            with probe.open("wb", buffering=0) as file:
                _write_all(file, bytes(_SPACE_BYTES))
                os.fsync(file.fileno())
        except OSError as error:
            raise _cannot(f"write {_SPACE_BYTES >> 10} KiB to", probe, error) from error
        finally:
            with suppress(OSError):
                probe.unlink()

    def append(self, record: Record) -> None:
        """Write one line and return only when the disk has it.

        Raises:
            StoreError: it could not be written; what was written before is intact.
        """
        line = record.to_json().encode() + b"\n"
        try:
            if not self._is_ready:
                self._prepare()
            # Unbuffered: after a failed write nothing may be left to be written on closing.
            with self.path.open("ab", buffering=0) as file:
                whole = file.tell()
                try:
                    _write_all(file, line)
                    os.fsync(file.fileno())
                except BaseException:  # a second Ctrl-C comes at any time
                    self._is_ready = False
                    with suppress(OSError):  # the first error is the one to tell
                        file.truncate(whole)  # no half line in front of the next record
                    raise
        except OSError as error:
            raise _cannot("append a record to", self.path, error) from error

    def _prepare(self) -> None:
        """Start on a new line, and make the file's name as lasting as its content."""
        _mend_end(self.path)
        self.path.touch()
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        self._is_ready = True


def records_folder(out: Path) -> Path:
    """Where the records of `out` are."""
    return out / "records"


def read_records(
    out: Path, *, missing_ok: bool = False, warn: Warn = _say_once
) -> tuple[Record, ...]:
    """All records under `out`, in the order of file names and lines.

    A torn last line, left by a crash in the middle of a write, is reported through `warn` (to
    stderr, once) and passed over.

    Args:
        out: the folder that a sweep wrote to.
        missing_ok: a folder without records gives none, instead of an error.
        warn: told about each line that is passed over.

    Raises:
        ConfigError: there are no records, or a file is unreadable, not ours, or written by a newer
            attnbench.
    """
    folder = records_folder(out)
    files = sorted(folder.glob("*.jsonl"))
    records = tuple(record for file in files for _, record in read_located(file, warn))
    if not records and not missing_ok:
        raise ConfigError(
            f"There are no records under {folder}; run a sweep first, or set out=DIR."
        )
    return records


class Tail:
    """The records that others append to `out` from now on.

    Args:
        out: the folder that sweeps write to.
    """

    def __init__(self, out: Path) -> None:
        self._folder = records_folder(out)
        self._own: str | None = None
        self._read = {file.name: file.stat().st_size for file in self._folder.glob("*.jsonl")}

    def leave_out(self, store: Store) -> None:
        """Read nothing of what `store` writes."""
        self._own = store.path.name

    def read(self) -> Iterator[Record]:
        """What has come since the last call.

        A line that is not whole yet is left for later, and one that is no record is passed over: it
        is `read_records` that speaks of it.
        """
        for file in sorted(self._folder.glob("*.jsonl")):
            before = self._read.get(file.name, 0)
            if file.name == self._own or file.stat().st_size <= before:
                continue
            with file.open("rb") as lines:
                lines.seek(before)
                whole, newline, _ = lines.read().rpartition(b"\n")
            self._read[file.name] = before + len(whole) + len(newline)
            for line in whole.split(b"\n"):
                with suppress(ConfigError):
                    yield _parse(line, file, 0)


def latest(records: Iterable[Record]) -> list[Record]:
    """The newest record of each cell, entry and machine, in order of first appearance.

    Of records that started at the same time the later one in `records` wins.
    """
    newest: dict[tuple[object, ...], Record] = {}
    for record in records:
        devices = record.environment.get("devices", {})
        machine = (record.environment.get("processor"), devices.get(record.cell.device))
        identity = (record.cell.key, record.cell.entry, *machine)
        known = newest.get(identity)
        if known is None or record.started_at >= known.started_at:
            newest[identity] = record
    return list(newest.values())


def read_located(file: Path, warn: Warn = _say_once) -> Iterator[tuple[int, Record]]:
    """The records of one file, each with the number of its line, one at a time.

    Raises:
        ConfigError: as of `read_records`.
    """
    try:
        lines = file.read_bytes().split(b"\n")
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}.") from error
    filled = [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    for number, line in filled:
        try:
            yield number, _parse(line, file, number)
        except ConfigError:
            if not (number == filled[-1][0] and _is_torn(line)):
                raise
            warn(f"{file}:{number} is torn, as by a crash while it was written; it is passed over.")


def _parse(line: bytes, file: Path, number: int) -> Record:
    try:
        flat = json.loads(line)
        version = flat["schema_version"]
        if isinstance(version, int) and version > SCHEMA_VERSION:
            raise ConfigError(
                f"{file}:{number} was written by a newer attnbench (schema {version}; this one "
                f"reads up to {SCHEMA_VERSION}). Update attnbench, or choose another out=DIR."
            )
        return Record.from_json(line.decode())
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise ConfigError(
            f"{file}:{number} is not a record of attnbench ({error}). "
            f"Take that line out, or move {file.name} out of the records folder."
        ) from error


def _is_torn(line: bytes) -> bool:
    """Whether a line that is no record could be the beginning of one."""
    begins_like_ours = line.startswith(_RECORD_START) or _RECORD_START.startswith(line)
    try:
        json.loads(line)
    except ValueError:
        # A file system that lost power may leave a hole of zeros where the data was to come.
        return begins_like_ours or not line.strip(b"\0")
    return False


def _write_all(file: RawIOBase, data: bytes) -> None:
    while data:
        data = data[file.write(data) or 0 :]


def _mend_end(file: Path, warn: Warn = _say_once) -> None:
    """Make a file end with a newline: complete a whole last line, cut a torn one."""
    text = file.read_bytes() if file.exists() else b""
    if not text or text.endswith(b"\n"):
        return
    start = text.rfind(b"\n") + 1
    if _is_torn(text[start:]):
        warn(f"{file} ended in a torn line, which is removed before new records are appended.")
        os.truncate(file, start)
    else:
        with file.open("ab") as end:
            end.write(b"\n")


def _cannot(what: str, path: Path, error: OSError) -> StoreError:
    mend = (
        "Free some space and start the sweep again: what was measured so far is kept."
        if error.errno in (errno.ENOSPC, errno.EDQUOT)
        else "Choose another out=DIR."
    )
    return StoreError(f"Cannot {what} {path}: {error.strerror or error}. {mend}")
