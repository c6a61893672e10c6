"""SIGKILL at random instants: a sweep, or a study, is started again until it is done."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random

import psutil

from tests.torture.settled import fault_of_curves, fault_of_store, fault_of_trainings
from tests.torture.trial import ROOT, SWEEP, Trial, end, start

VICTIMS = ("parent", "group", "server", "worker")

LAST_BREATH_S = 20.0
"""Seconds after the parent's end within which the last of its descendants must end."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """A command to kill.

    Attributes:
        command: its name.
        words: its command line, but for ``out``.
        fault: called with its folder and whether all is done; says what is wrong, or is empty.
        life_s: seconds that it takes, roughly; a kill comes at any moment of it.
    """

    command: str
    words: tuple[str, ...]
    fault: Callable[[Path, bool], str]
    life_s: float


def sweep_of(plan: tuple[str, ...], life_s: float = 8.0) -> Target:
    """A sweep of a plan."""

    def fault(out: Path, is_done: bool) -> str:
        return fault_of_store(out, is_done=is_done, plan=plan)

    return Target(command="sweep", words=plan, fault=fault, life_s=life_s)


_TRAINED = partial(Target, fault=fault_of_trainings, life_s=15.0)
_LAYERS = ("task.recall_causal.num_layers=2", "task.recall_causal.embed_dim=16")
_STEPS = ("task.recall_causal.num_steps=4", "task.recall_causal.num_heads=1")
STUDIES = (
    Target(
        command="convert",
        words=(
            *("attention=[linear,uniform]", "keep=0.5", "num_layers=2", "seed=[0,1]"),
            "learning_rates=[0.003,0.01]",
            *("match_steps=2", "distil_steps=2", "tune_steps=2"),
            *("task.recall_causal.num_steps=4", "task.recall_causal.embed_dim=16"),
            *("task.recall_causal.num_test_examples=64", "task.recall_causal.batch_size=8"),
        ),
        fault=fault_of_curves,
        life_s=15.0,
    ),
    _TRAINED(
        command="text",
        words=(
            *("attention=[linear]", "hybrid=[linear]", "scaled=[linear]", "seed=[0,1]"),
            *("context_len=16", "num_steps=4", "width=16", "widths=16", "budgets=[2,3]"),
            f"root={ROOT / 'CHANGELOG.md'}",
        ),
    ),
    _TRAINED(
        command="hybrids",
        words=(
            *("attention=[linear]", "task=[recall_causal]", "~task.word_problem"),
            *("softmax_layers=[0,1]", "seed=[0,1]", *_LAYERS, *_STEPS),
        ),
    ),
)
"""Studies that take seconds, with some models each."""


def kills(
    count: int, draw: Random, folder: Path, targets: Sequence[Target] = (sweep_of(SWEEP),)
) -> Iterator[Trial]:
    """Kill the parent, its process group, the workers' server or a worker, `count` times in all."""
    left = count
    for number in range(10**6):
        if left <= 0:
            return
        here = folder / str(number)
        here.mkdir()
        target = targets[number % len(targets)]
        is_done = False
        while not is_done:
            victim = draw.choice(VICTIMS) if left > 0 else None
            process = start([*target.words, "out=store"], here, target.command)
            struck = victim is not None and _strike(process, victim, draw.uniform(0, target.life_s))
            ended = end(process)
            was_killed = struck and victim in ("parent", "group")
            fault = ended.fault(-signal.SIGKILL) if was_killed else ended.fault(0)
            is_done = not struck
            fault = fault or target.fault(here / "store", is_done) or _strays(here)
            left -= struck
            if struck or fault:
                of = "" if target.command == "sweep" else f" of {target.command}"
                yield Trial(what=f"{victim}{of} killed" if struck else "left alone", fault=fault)
            if fault:
                break


def studies(count: int, draw: Random, folder: Path) -> Iterator[Trial]:
    """Like `kills`, for studies that train."""
    yield from kills(count, draw, folder, STUDIES)


def _strike(process: subprocess.Popen[str], victim: str, after_s: float) -> bool:
    """Kill a victim after a while, or as soon as there is one; False if the command has ended."""
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
    """Sentence on processes that a command of this folder has left behind; empty if none is."""
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
