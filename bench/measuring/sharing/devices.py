"""One timing at a time on each device of a host, whatever commands there are on it.

Among sweeps of one store a timing has its device alone, and trainings share it with each other;
trainings of other stores may last for days, and nobody waits for them: what they disturb is marked
as noisy. Whoever waits goes before those who come later, so that trainings without an end keep no
timing away. Locks end with their process.
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
from bench.core.cli.texts import visible
from bench.measuring.device import device_named

_LOOK_S = 0.05
"""How often somebody who waits for a device looks whether it is free."""

Pause = Callable[[float], None]
"""Waits some seconds, and raises when somebody asks to stop."""


class DeviceLock:
    """The right to use a device of this host, against other processes of the same user.

    Args:
        device: a torch device.
        shared: with others who share it as well.
        store: the folder of records whose sweeps the lock is among; None for all sweeps.
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
        """Take it if it is free; if not, wait in line until the next attempt or `release`.

        Where there is no folder for locks everything is free, which was said on stderr.
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
        """Take it, and wait for that if need be; `tell` hears so once."""
        if self.try_take():
            return
        tell(f"waiting for {self._device}, where something else is measured")
        while not self.try_take():
            pause(_LOOK_S)

    def release(self) -> None:
        """Give it back, or leave the line."""
        for handle in (self._turn, self._held):
            if handle is not None:
                os.close(handle)
        self._turn = self._held = None


@contextmanager
def alone_on(
    device: str, pause: Pause, tell: Callable[[str], None], *, store: Path | None = None
) -> Iterator[None]:
    """A time in which no other command times on a device of this host.

    Args:
        device: a torch device.
        pause: see `DeviceLock.take`.
        tell: hears once if somebody has to be waited for.
        store: the folder of a sweep, whose trainings are waited for as well.
    """
    with ExitStack() as locks:
        for among in (None,) if store is None else (store, None):
            lock = DeviceLock(device, shared=False, store=among)
            locks.callback(lock.release)
            lock.take(pause, tell)
        yield


def _locked(path: Path, mode: int) -> int | None:
    """A file that is locked as long as it is open; None if others have locked it.

    Raises:
        OSError: it can be locked by nobody.
    """
    handle = os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
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
    """Where the locks are; None, and words on stderr, if others could stall or misuse them."""
    try:
        return shared_folder("attnbench-devices")
    except ConfigError as error:
        _say_unlocked(str(error))
        return None


@cache
def _say_unlocked(why: str) -> None:
    print(
        f"Timings of several commands may disturb each other: {visible(why, 500)}, so devices are "
        "not locked. Set XDG_RUNTIME_DIR to a folder of your own, with mode 0700.",
        file=sys.stderr,
    )
