"""Which processes end with which: what a worker started with it, all of them with the parent.

Linux tells more than POSIX does. Elsewhere a worker's process group ends with it, and the server
when its socket says that the parent is gone.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Callable, Set
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def end_with(parent: int, number: int = signal.SIGKILL) -> None:
    """Have the system send a signal to this process when its parent ends, however it ends.

    Ends this process if the parent, of that number, is gone already.
    """
    _prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        os._exit(1)


def adopt_orphans() -> None:
    """Make this process the parent of its descendants whose own parent ends."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def end_descendants(worker: int, workers: Set[int]) -> None:
    """End what a worker that has ended left running: its process group, and adopted orphans.

    A process that has left the group, by `setsid` or a second fork, is an orphan by now. What a
    worker had others start for it, such as a container or a job of systemd, is not found.

    Args:
        worker: it has been waited for.
        workers: those that still run.
    """
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(worker, signal.SIGKILL)
    _end_children(lambda pid: pid not in workers)


def end_orphans(known: Set[int]) -> None:
    """End what a server of workers that was killed left running: this process has adopted it.

    All of it is in sessions of its workers' own; a process of this one's session is none of it.

    Args:
        known: children of this process that are none of it either.
    """
    session = os.getsid(0)
    _end_children(lambda pid: pid not in known and _session(pid) != session)


def _end_children(is_meant: Callable[[int], bool]) -> None:
    spared: set[int] = set()
    while strays := {pid for pid in children() - spared if is_meant(pid)}:
        for pid in strays:  # an end makes orphans of the next generation
            try:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            except (ProcessLookupError, PermissionError, ChildProcessError):
                spared.add(pid)


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:
        return None


def children() -> set[int]:
    """Children of this process, zombies among them; none where the system does not tell."""
    found: set[int] = set()
    for file in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found.update(map(int, file.read_text().split()))
    return found
