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
from collections.abc import Set
from pathlib import Path

import psutil

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_MOST_GENERATIONS = 10
"""So often is looked for processes that others start while they are ended."""


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
    worker had others start for it, such as a container or a job of systemd, is not found. Where
    nobody is left to adopt orphans, see `end_marked`.

    Args:
        worker: it has been waited for.
        workers: those that still run.
    """
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(worker, signal.SIGKILL)
    kept = set(workers)
    while strays := _children() - kept:  # an end makes orphans of the next generation
        for pid in strays:
            try:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            except (ProcessLookupError, PermissionError, ChildProcessError):
                kept.add(pid)


def end_marked(variable: str, value: str) -> None:
    """End every process that was started with an environment variable of this value.

    Those are the descendants of the process that was given it, whoever their parent is by now; not
    one that was started with another environment.
    """
    for _ in range(_MOST_GENERATIONS):
        marked = [process for process in psutil.process_iter() if _has(process, variable, value)]
        if not marked:
            return
        for process in marked:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(marked, timeout=1.0)


def _has(process: psutil.Process, variable: str, value: str) -> bool:
    try:
        return bool(process.environ().get(variable) == value)
    except (psutil.Error, OSError):  # another user's, or gone
        return False


def _children() -> set[int]:
    """Of this process, zombies among them; none where the system does not tell."""
    found: set[int] = set()
    for file in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found.update(map(int, file.read_text().split()))
    return found
