"""Trials, and how they run commands: in this process, or in one of their own."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

ROOT = Path(__file__).resolve().parent.parent.parent

SMALL = ("num_heads=2", "head_dim=8", "measure.budget_s=0.05", "measure.max_rounds=20")
SWEEP = (
    "attention=[softmax,linear,nala]",
    "seq_len=[32,48,64]",
    "task=[recall]",
    "task.recall.num_steps=4",
    "charts=false",
    *SMALL,
)
"""The plan that is measured again and again: nine cells in three blocks, and three trainings."""

TINY_SWEEP = (
    "attention=[softmax]",
    "seq_len=32",
    "task=[recall]",
    "task.recall.num_steps=2",
    "charts=false",
    *SMALL,
)
"""One cell to time and one to train: where a test has few seconds."""

PATIENCE_S = 300.0
"""Seconds after which a command hangs; none takes as long."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One attack.

    Attributes:
        what: what was done, in words that many trials share.
        fault: what went wrong; empty if nothing did.
    """

    what: str
    fault: str = ""


Part = Callable[[int, Random, Path], Iterator[Trial]]
"""Makes trials, given their number, the random draws and an empty folder."""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a command ended."""

    code: int
    said: str

    def fault(self, *codes: int) -> str:
        """Why this is no proper end: a traceback, or another exit code; empty if it is."""
        if "Traceback (most recent call last)" in self.said:
            return f"a traceback: {self.said[-1500:]}"
        if self.code not in codes:
            return f"exit code {self.code}: {self.said[-1500:]}"
        return ""


def here(main: Callable[[list[str]], int], words: list[str], folder: Path) -> Ended:
    """Run a command in this process, in a folder.

    Raises:
        KeyboardInterrupt: Ctrl-C ended it.
    """
    said = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace")
    with (
        contextlib.chdir(folder),
        contextlib.redirect_stdout(said),
        contextlib.redirect_stderr(said),
    ):
        try:
            code = main(words)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # any exception is a fault
            return Ended(code=3, said=f"{_text(said)}\nnot caught: {error!r}")
    if code == 130:  # Ctrl-C is for the whole run, not for this command alone
        raise KeyboardInterrupt
    return Ended(code=code, said=_text(said))


def _text(stream: io.TextIOWrapper) -> str:
    stream.flush()
    return stream.buffer.getvalue().decode()  # type: ignore[attr-defined]


def start(words: list[str], folder: Path, command: str = "sweep") -> subprocess.Popen[str]:
    """Start a command in a folder and a session of its own; what it says goes to one pipe."""
    temporary = folder / "tmp"  # so that it waits for no other sweep of this machine
    temporary.mkdir(exist_ok=True)
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "WANDB_MODE": "disabled",
        "TMPDIR": str(temporary),
    }
    environment.pop("ATTNBENCH_SWEEP", None)
    return subprocess.Popen(
        [sys.executable, "-m", f"bench.{command}", *words],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def end(process: subprocess.Popen[str]) -> Ended:
    """Wait for a command to end; one that hangs is killed."""
    try:
        said, _ = process.communicate(timeout=PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return Ended(code=3, said=f"It did not end in {PATIENCE_S:.0f} s.")
    return Ended(code=process.returncode, said=said)
