"""Leases on units of work, as files that all sweeps of a store see.

A lease is a file that its holder creates exclusively, and touches every `TOUCH_EVERY_S` while it
holds it. It has expired if it was not touched for `EXPIRES_AFTER_S`, or if its holder's process on
this host is gone. This assumes that exclusive creation is atomic on the file system, and that the
clocks of the hosts are within 30 s of each other.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

import psutil

from bench.core.clock import unix_s
from bench.core.store import StoreError

TOUCH_EVERY_S = 10.0
EXPIRES_AFTER_S = 60.0
"""Seconds without a touch: six are missed, or three if clocks are 30 s apart."""


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Process that holds a lease; the fields are keys of its file.

    Attributes:
        what: the work, in a few words.
    """

    host: str
    pid: int
    what: str = ""

    @property
    def name(self) -> str:
        """As ``node7:4711``."""
        return f"{self.host}:{self.pid}"

    @property
    def is_here(self) -> bool:
        """True on the holder's own host."""
        return self.host == socket.gethostname()


class Leases:
    """Leases of one sweep, and a view of others. A context manager that releases its own.

    Raises:
        StoreError: the folder of leases cannot be written to.
    """

    def __init__(self, out: Path) -> None:
        self._folder = leases_folder(out)
        self._held: dict[str, int] = {}
        self._lock = threading.Lock()
        self._has_ended = threading.Event()
        self._touching = threading.Thread(target=self._touch, daemon=True)

    def __enter__(self) -> Leases:
        self._make_folder()
        self._touching.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._has_ended.set()
        self._touching.join()
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
        with _reported(path):
            while True:
                try:
                    handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
                    break
                except FileExistsError:
                    if not _remove_expired(path):
                        return False
                except FileNotFoundError:  # another sweep has removed the empty folder
                    self._make_folder()
            with self._lock:
                self._held[name] = handle
            holder = Holder(host=socket.gethostname(), pid=os.getpid(), what=what)
            try:
                os.write(handle, json.dumps(asdict(holder)).encode())
            except OSError:
                self.release(name)
                raise
        return True

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
        for path in sorted(self._folder.glob("[!.]*")):
            if path.name in self._held:
                continue
            with suppress(OSError), open(path, "rb") as file:  # it may be released meanwhile
                holder, has_expired = _read(file)
                if holder is not None and not has_expired:
                    yield path.name, holder

    def _make_folder(self) -> None:
        with _reported(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)

    def _touch(self) -> None:
        while not self._has_ended.wait(TOUCH_EVERY_S):
            with self._lock:
                for handle in self._held.values():
                    with suppress(OSError):
                        os.utime(handle)


def leases_folder(out: Path) -> Path:
    """Folder of the leases in the store `out`, which sweeps of older versions may share."""
    return out / "claims"


def _read(file: IO[bytes]) -> tuple[Holder | None, bool]:
    """The holder of a lease, None if it has not signed yet, and whether the lease has expired."""
    try:
        flat = json.loads(file.read())
        holder = Holder(host=flat["host"], pid=flat["pid"], what=flat.get("what", ""))
    except (ValueError, KeyError):  # its holder was killed in the middle of the write
        holder = None
    is_gone = holder is not None and holder.is_here and not psutil.pid_exists(holder.pid)
    # A time in the future counts as well: a clock was set back since.
    age_s = abs(unix_s() - os.fstat(file.fileno()).st_mtime)
    return holder, is_gone or age_s > EXPIRES_AFTER_S


def _remove_expired(path: Path) -> bool:
    """Remove a lease if it has expired; False if its work is not free.

    It is locked meanwhile, so that one sweep removes it and none removes its successor. On a file
    system without locks, a successor may be lost in the instant between the last two steps.
    """
    # NFS locks only what is open for writing.
    with suppress(FileNotFoundError), open(path, "rb+") as file:
        _, has_expired = _read(file)
        if not has_expired:
            return False
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # another sweep removes it, to take the work
            return False
        except OSError:
            pass
        if os.path.samestat(os.fstat(file.fileno()), path.stat()):
            path.unlink()
    return True


@contextmanager
def _reported(path: Path) -> Iterator[None]:
    """Report errors on a lease, or on the folder of leases, as a `StoreError`."""
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"Cannot write the lease {path}: {error.strerror or error}. "
            "Free some space or choose another out=DIR."
        ) from error
