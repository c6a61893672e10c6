"""SIGKILL at random instants: a sweep is started again until it is done."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from random import Random

import psutil

from tests.torture.settled import fault_of_store
from tests.torture.trial import SWEEP, Trial, end, start

VICTIMS = ("parent", "group", "server", "worker")
LIFE_S = 8.0
"""About as long as a sweep of `SWEEP` takes; a kill comes at any moment of it."""

LAST_BREATH_S = 20.0
"""After the parent's end, until the last of its descendants has ended."""


def kills(
    count: int,
    draw: Random,
    folder: Path,
    plan: tuple[str, ...] = SWEEP,
    life_s: float = LIFE_S,
) -> Iterator[Trial]:
    """Kill the parent, its process group, the workers' server or a worker, `count` times in all."""
    left = count
    for number in range(10**6):
        if left <= 0:
            return
        here = folder / str(number)
        here.mkdir()
        is_done = False
        while not is_done:
            victim = draw.choice(VICTIMS) if left > 0 else None
            process = start([*plan, "out=store"], here)
            struck = victim is not None and _strike(process, victim, draw.uniform(0, life_s))
            ended = end(process)
            was_killed = struck and victim in ("parent", "group")
            fault = ended.fault(-signal.SIGKILL) if was_killed else ended.fault(0)
            is_done = not struck
            store = here / "store"
            fault = fault or fault_of_store(store, is_done=is_done, plan=plan) or _strays(here)
            left -= struck
            if struck or fault:
                yield Trial(what=f"{victim} killed" if struck else "left alone", fault=fault)
            if fault:
                break


def _strike(process: subprocess.Popen[str], victim: str, after_s: float) -> bool:
    """Kill a victim after a while, or as soon as there is one; False if the sweep ended before."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(after_s)
    while process.poll() is None:
        with suppress(psutil.Error, ProcessLookupError):
            if victim == "group":
                os.killpg(process.pid, signal.SIGKILL)
                return True
            if (pid := _find(process.pid, victim)) is not None:
                os.kill(pid, signal.SIGKILL)
                return True
        time.sleep(0.01)
    return False


def _find(parent: int, victim: str) -> int | None:
    if victim == "parent":
        return parent
    children = psutil.Process(parent).children()
    servers = [child for child in children if "bench.measuring.worker" in child.cmdline()]
    if victim == "server":
        return servers[0].pid if servers else None
    workers = [worker for server in servers for worker in server.children()]
    return workers[0].pid if workers else None


def _strays(folder: Path) -> str:
    """Processes that a sweep of this folder has left, once they had time to end."""
    until = time.monotonic() + LAST_BREATH_S
    while strays := [process for process in psutil.process_iter() if _is_of(process, folder)]:
        if time.monotonic() > until:
            return f"processes are left: {[process.cmdline() for process in strays]}"
        time.sleep(0.05)
    return ""


def _is_of(process: psutil.Process, folder: Path) -> bool:
    try:
        return process.pid != os.getpid() and process.cwd() == str(folder)
    except (psutil.Error, OSError):
        return False
