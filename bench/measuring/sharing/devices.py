"""Locks on devices, so that one timing at a time runs on each device of a host.

Among sweeps of one store a timing has its device alone, and trainings share it with each other.
Trainings of other stores may last for days and are not waited for: timings that they disturb are
marked as noisy. Locks are granted in the order of requests, so that a stream of trainings does not
starve a timing, and end with their process.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path

from bench.core.cli.errors import ConfigError
from bench.core.cli.temporary import shared_folder
from bench.measuring.device import device_named

_LOOK_S = 0.05
"""Seconds between two attempts to lock a device that is in use."""

Pause = Callable[[float], None]
"""Waits some seconds, and raises when a stop is requested."""


class DeviceLock:
    """The right to use a device of this host, against other processes of the same user.

    Others may hold a `shared` lock at the same time. With `store`, it is a lock among the sweeps of
    this folder of records; else among all sweeps.
    """

    def __init__(self, device: str, *, shared: bool, store: Path | None = None) -> None:
        self._device = device
        self._mode = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        words = device_named(device).identity + ("" if store is None else f" {store.resolve()}")
        folder = _folder()
        name = hashlib.sha256(words.encode()).hexdigest()[:16]
        self._path = None if folder is None else folder / name
        self._turn: int | None = None
        self._held: int | None = None

    def try_take(self) -> bool:
        """Take the lock if it is free; if not, stay in the queue until `release`.

        Without a folder for locks every device counts as free; a warning on stderr says so.
        """
        if self._path is None:
            return True
        try:
            if self._turn is None:
                self._turn = _locked(self._path.with_suffix(".turn"), fcntl.LOCK_EX)
            if self._turn is not None:
                self._held = _locked(self._path, self._mode)
        except OSError as error:
            _say_unlocked(f"{self._path} cannot be locked: {error.strerror}")
            self.release()
            return True
        if self._held is None:
            return False
        os.close(self._turn)  # type: ignore[arg-type]
        self._turn = None
        return True

    def take(self, pause: Pause, tell: Callable[[str], None]) -> None:
        """Take the lock, waiting if need be; `tell` is then called once.

        Raises:
            Exception: whatever `pause` raises when a stop is requested.
        """
        if self.try_take():
            return
        tell(f"waiting for {self._device}, where something else is measured")
        while not self.try_take():
            pause(_LOOK_S)

    def release(self) -> None:
        """Release the lock, or leave the queue."""
        for handle in (self._turn, self._held):
            if handle is not None:
                os.close(handle)
        self._turn = self._held = None


@contextmanager
def alone_on(
    device: str, pause: Pause, tell: Callable[[str], None], *, store: Path | None = None
) -> Iterator[None]:
    """Hold a device of this host for a timing: no other command times on it meanwhile.

    `tell` is called once if the device is in use. The trainings of the sweep of `store` are waited
    for as well.
    """
    with ExitStack() as locks:
        for among in (None,) if store is None else (store, None):
            lock = DeviceLock(device, shared=False, store=among)
            locks.callback(lock.release)
            lock.take(pause, tell)
        yield


def _locked(path: Path, mode: int) -> int | None:
    """Handle of a file that is locked while it is open; None if another process has locked it.

    Raises:
        OSError: the file cannot be opened or locked at all.
    """
    handle = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, mode | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        if isinstance(error, BlockingIOError):
            return None
        raise  # such as a file system without locks
    return handle


@cache
def _folder() -> Path | None:
    """Folder of the locks; None, and a warning on stderr, if no folder is this user's alone."""
    try:
        return shared_folder("attnbench-devices")
    except ConfigError as error:
        _say_unlocked(str(error))
        return None


@cache
def _say_unlocked(why: str) -> None:
    print(
        f"Timings of several commands may disturb each other: {why}, so devices are "
        "not locked. Set XDG_RUNTIME_DIR to a folder of your own, with mode 0700.",
        file=sys.stderr,
    )
