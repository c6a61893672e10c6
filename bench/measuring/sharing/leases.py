"""Leases on units of work, as files that all sweeps of a store see.

A lease is a file that its holder creates exclusively, and touches every `HEARTBEAT_S`. A holder on
the same host is dead if its process is gone; one elsewhere, if its file was not touched for
`DEAD_AFTER_S`. This assumes that exclusive creation is atomic on the file system, and that the
clocks of the hosts are within 30 s of each other.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from operator import attrgetter
from pathlib import Path
from types import TracebackType
from typing import Annotated

import psutil
from annotated_types import Interval

from bench.core.cli.errors import ConfigError, say_once
from bench.core.cli.limits import Amount, Count, Name, Text, checked, parsed
from bench.core.cli.stored_files import folder_inside, open_inside, regular_files
from bench.core.clock import unix_s
from bench.core.store import StoreError

FOLDER = "claims"
"""Name of the folder in a store. Sweeps of older versions may share the store, so it stays."""

HEARTBEAT_S = 10.0
DEAD_AFTER_S = 60.0
"""Seconds without a heartbeat: six are missed, or three if clocks are 30 s apart."""

MAX_BYTES = 2**16
"""Largest number of bytes read of a lease, which has a few hundred."""

_SAME_START_S = 2.0
"""Tolerance of a process's start: it follows from the boot time, which moves with the clock."""

_UNLIKELY_MANY = 100
"""Number of takeovers and releases by others during one attempt before it gives up."""


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Holder of a lease; the fields are the keys of its file.

    Attributes:
        pids: PID namespace of its process; containers may share a host's name.
        started: start of that process, in seconds since 1970.
        what: the work, in a few words.
        done, failed: number of cells with a record so far, and of those that failed.
    """

    host: Name
    pids: Text
    pid: Annotated[int, Interval(ge=1, le=2**31 - 1)]
    started: Amount
    what: Text = ""
    done: Count = 0
    failed: Count = 0

    @property
    def name(self) -> str:
        """As ``node7:4711``."""
        return f"{self.host}:{self.pid}"

    @property
    def is_here(self) -> bool:
        """Whether its process would be visible to this one: the same host and PID namespace."""
        return (self.host, self.pids) == (socket.gethostname(), _pids())

    @property
    def is_running(self) -> bool:
        """Whether its process runs here: its id and its start are those of the holder."""
        try:
            process = psutil.Process(self.pid)
            if abs(process.create_time() - self.started) > _SAME_START_S:
                return False
            return bool(process.status() != psutil.STATUS_ZOMBIE)
        except psutil.Error:
            return False


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """A lease's file at one moment; `holder` is None while its content is not yet written."""

    text: str
    touched: float

    @property
    def holder(self) -> Holder | None:
        try:
            flat = parsed(self.text)
            return checked(Holder, flat) if isinstance(flat, dict) else None
        except ValueError:
            return None

    @property
    def has_expired(self) -> bool:
        holder = self.holder
        if holder is not None and holder.is_here:
            return not holder.is_running
        # A time in the future counts as well: a clock was set back since.
        return abs(unix_s() - self.touched) > DEAD_AFTER_S


class Leases:
    """Leases of one sweep, and a view of others. A context manager that releases its own.

    Raises:
        StoreError: the folder of leases cannot be written to.
    """

    def __init__(self, out: Path) -> None:
        self._folder = leases_folder(out)
        self._held: dict[str, int] = {}
        self._lock = threading.Lock()
        self._is_over = threading.Event()
        self._heart = threading.Thread(target=self._beat, daemon=True)
        self.done = self.failed = 0

    def __enter__(self) -> Leases:
        self._make_folder()
        self._heart.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._is_over.set()
        self._heart.join()
        for name in list(self._held):
            self.release(name)
        with suppress(OSError):  # others may have leases in it
            self._folder.rmdir()

    def acquire(self, name: str, what: str = "") -> bool:
        """Lease a unit of work; False if a sweep that is alive holds it.

        `name` is fit for a file name; `what` describes the work to those who wait for it.

        Raises:
            StoreError: the lease cannot be written.
        """
        path = self._folder / name
        for _ in range(_UNLIKELY_MANY):
            try:
                handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
            except FileExistsError:
                try:
                    seen = _look(path)
                except ConfigError as error:  # no lease of a sweep, and never released
                    say_once(f"{error} The work that it stands for goes on without a lease.")
                    return True
                if seen is not None:
                    if not seen.has_expired:
                        return False
                    _remove_expired(path, seen)
            except FileNotFoundError:  # another sweep has removed the empty folder
                self._make_folder()
            except OSError as error:
                raise _cannot(path, error) from error
            else:
                self._sign(path, handle, what)
                with self._lock:
                    self._held[name] = handle
                return True
        return False

    def _make_folder(self) -> None:
        try:
            with folder_inside(self._folder.parent, self._folder, make=True):
                pass
        except OSError as error:
            raise _cannot(self._folder, error) from error

    def _sign(self, path: Path, handle: int, what: str) -> None:
        flat = asdict(_me()) | {"what": what, "done": self.done, "failed": self.failed}
        try:
            os.write(handle, json.dumps(flat).encode())
        except OSError as error:
            os.close(handle)
            path.unlink(missing_ok=True)
            raise _cannot(path, error) from error

    def release(self, name: str) -> None:
        """Release a lease, once the records of its work are written."""
        with self._lock:
            handle = self._held.pop(name, None)
        if handle is None:
            return
        path = self._folder / name
        with suppress(OSError):
            # A sweep that was suspended for a minute may have lost its lease to another.
            if os.path.samestat(os.fstat(handle), os.stat(path)):
                path.unlink()
        os.close(handle)

    def others(self) -> Iterator[tuple[str, Holder]]:
        """Names of leases of other sweeps that are alive, each with its holder."""
        pattern = f"{self._folder.name}/[!.]*"
        for path in regular_files(self._folder.parent, pattern, are_checked=False):
            try:
                seen = None if path.name in self._held else _look(path)
            except ConfigError as error:
                say_once(f"{error} It is passed over.")
                continue
            if seen is not None and not seen.has_expired and (holder := seen.holder) is not None:
                yield path.name, holder

    def by_machine(self) -> dict[str, Counter[str]]:
        """Numbers by host: cells ``done`` and ``failed``, leases ``running``; this host first.

        Other sweeps count only while they hold a lease.
        """
        mine = Holder(**asdict(_me()) | {"done": self.done, "failed": self.failed})
        held = [mine] * len(self._held) + [holder for _, holder in self.others()]
        found = {mine.host: Counter(done=mine.done, failed=mine.failed)} if not self._held else {}
        seen: dict[str, Holder] = {}
        for holder in held:
            machine = found.setdefault(holder.host, Counter())
            machine["running"] += 1
            # Each lease holds the progress of its sweep when it was made; the newest counts.
            newest = max(seen.get(holder.name, holder), holder, key=attrgetter("done"))
            seen[holder.name] = newest
        for holder in seen.values():
            found[holder.host].update(done=holder.done, failed=holder.failed)
        return found

    def _beat(self) -> None:
        while not self._is_over.wait(HEARTBEAT_S):
            with self._lock:
                for handle in self._held.values():
                    with suppress(OSError):
                        os.utime(handle)


def leases_folder(out: Path) -> Path:
    """Folder of the leases on cells of the store `out`."""
    return out / FOLDER


def _look(path: Path) -> _Seen | None:
    """Read a lease; None if it was released meanwhile.

    Raises:
        ConfigError: it is not a regular file, and would never be released.
    """
    try:
        with open_inside(path.parent.parent, path) as file:
            text = file.read(MAX_BYTES).decode(errors="replace")
            return _Seen(text=text, touched=os.fstat(file.fileno()).st_mtime)
    except PermissionError:  # another user's: its holder touches it while alive
        with suppress(OSError):
            return _Seen(text="", touched=os.lstat(path).st_mtime)
    except OSError:
        pass
    return None


def _remove_expired(path: Path, expired: _Seen) -> None:
    """Remove an expired lease.

    Only the process that created the tombstone may do so, and reads the lease again first: a lease
    that a living sweep has acquired meanwhile is never removed.
    """
    digest = hashlib.sha256(f"{expired.text} {expired.touched}".encode()).hexdigest()[:16]
    tombstone = path.with_name(f".{path.name}.{digest}")
    try:
        os.close(os.open(tombstone, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
    except FileExistsError:
        with suppress(OSError):  # its creator removes the lease, unless it has died meanwhile
            if unix_s() - os.lstat(tombstone).st_mtime > DEAD_AFTER_S:
                tombstone.unlink()
        return
    except OSError as error:
        raise _cannot(path, error) from error
    try:
        if _look(path) == expired:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise _cannot(path, error) from error
    finally:
        tombstone.unlink(missing_ok=True)


def _me() -> Holder:
    pid = os.getpid()
    started = psutil.Process(pid).create_time()
    return Holder(host=socket.gethostname(), pids=_pids(), pid=pid, started=started)


def _pids() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _cannot(path: Path, error: OSError) -> StoreError:
    return StoreError(
        f"Cannot write the lease {path}: {error.strerror or error}. "
        "Free some space or choose another out=DIR."
    )
