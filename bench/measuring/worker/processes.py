"""End the processes that a worker started with the worker, and all of them with the parent.

This is complete on Linux only. Elsewhere a worker's process group ends with it, and the server
ends when its socket is closed by the parent's end.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Callable, Set
from pathlib import Path

import psutil

from bench.core.clock import now_s, sleep_s

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_LOOK_S = 0.01


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def end_with(parent: int, number: int = signal.SIGKILL) -> None:
    """Have the system send a signal to this process when its parent ends, however it ends.

    Exits at once if the parent is gone already.
    """
    _prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        os._exit(1)


def adopt_orphans() -> None:
    """Make this process the new parent of descendants whose own parent ends; on Linux only."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def end_descendants(worker: int, workers: Set[int]) -> None:
    """Kill what an ended worker left running: its process group, and adopted orphans.

    A process that has left the group, by `setsid` or a second fork, is an orphan by now. Processes
    that other services started for a worker, such as a container, are not found. `worker` was
    waited for; `workers` still run.
    """
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(worker, signal.SIGKILL)
    _end_children(lambda pid: pid not in workers)


def end_orphans(known: Set[int]) -> None:
    """Kill what a killed server of workers left running, which this process has adopted.

    Workers have sessions of their own, so processes of this process's session are spared. Other
    children of this process, `known`, are spared too.
    """
    session = os.getsid(0)
    _end_children(lambda pid: pid not in known and _session(pid) != session)


def _end_children(is_meant: Callable[[int], bool]) -> None:
    spared: set[int] = set()
    while strays := {pid for pid in children() - spared if is_meant(pid)}:
        for pid in strays:  # their own children become orphans, for the next pass
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


def ends_within(pid: int, seconds: float) -> bool:
    """Wait for a process that is not ours to reap; whether it ends within some seconds."""
    ends_s = now_s() + seconds
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        while process.status() != psutil.STATUS_ZOMBIE:
            if now_s() > ends_s:
                return False
            sleep_s(_LOOK_S)
    return True


def children() -> set[int]:
    """Process ids of children of this process, zombies included; none without /proc."""
    found: set[int] = set()
    for file in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found.update(map(int, file.read_text().split()))
    return found
