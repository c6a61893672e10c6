"""Packages, a variable and a limit that would stop a command, and what it says instead."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.core.record import Record
from bench.core.store import read_records
from tests.attentions.test_plugins import install

FATAL = {
    "exits": ("import os; os._exit(7)", "ends the process with exit code 7"),
    "segfaults": ("import ctypes; ctypes.string_at(0)", "ends the process with signal 11"),
    "hangs": ("import time; time.sleep(1000)", "does not end within 3 s"),
    "interrupts": ("raise KeyboardInterrupt", "raises KeyboardInterrupt"),
}
"""A package -> its module, and how the import of that ends."""

SWEEP = "sweep attention=[softmax,linear] seq_len=[64,1088] num_heads=1 head_dim=16 causal=true"
MORE = "task=[] wandb.mode=disabled measure.budget_s=0.5 measure.min_rounds=15"
_MEMORY_KB = 12_000_000
"""Address space that torch can live with, and the library that draws charts cannot."""


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        name: of the case.
        words: what would stop the command.
        told: what it said of it; None if it ended otherwise than it must.
        linear: `linear` beside it, where it was measured.
    """

    name: str
    words: str
    told: str | None
    linear: Record | None = None


def ended(folder: Path) -> Iterator[Ended]:
    """Run a sweep, a list and a report, with all of these in an empty folder."""
    site, out = folder / "site", folder / "out"
    site.mkdir()
    variable = _run(site, f"{SWEEP} {MORE} out={out}", ATTNBENCH_SWEEP="\x1b[31mx\nb")
    told = _told(variable, r"ATTNBENCH_SWEEP is '\\x1b\[31mx\\nb'. .*must be printable", code=2)
    words = "an escape code and a new line in `ATTNBENCH_SWEEP`"
    yield Ended("unprintable_sweep", words, None if out.exists() else told)

    for name, (source, _) in FATAL.items():
        install(site, name, source, f"plugin_that_{name}")
    install(site, "malformed", "", "malformed")
    points = site / "malformed-1.5.dist-info" / "entry_points.txt"
    points.write_text("[attnbench.attentions]\ni = ep print;\x1b[31mx\n")
    listed, swept = _run(site, "list"), _run(site, f"{SWEEP} {MORE} out={out}")
    records = [r for r in read_records(out, missing_ok=True) if r.cell.kernel.seq_len == 1088]
    linear = next((r for r in records if r.cell.entry == "linear"), None)
    said = r"'i' \(ep print;\\x1b\[31mx, of malformed 1.5\) is left out: (.* names no module)"
    told = _told(listed, said) and _told(swept, said)
    words = "an entry point that names no module, with an escape code"
    yield Ended("malformed", words, told, linear)
    for name, (source, how) in FATAL.items():
        told = _told(swept, rf"of {name} 1.5\) is left out: (.*{how})")
        yield Ended(name, f"an installed package with `{source}`", told, linear)

    for page in (pages := [out / "leaderboard.md", out / "leaderboard.html"]):
        page.unlink(missing_ok=True)
    limited = _run(site, f"report out={out}", limit=f"ulimit -v {_MEMORY_KB}; ")
    told = _told(limited, "pictures missing in .*: (vl_convert ended with .*)")
    words = f"`ulimit -v {_MEMORY_KB}`, of which the library for charts dies"
    yield Ended("little_memory", words, told if all(page.is_file() for page in pages) else None)


def _run(site: Path, words: str, limit: str = "", **variables: str) -> subprocess.CompletedProcess:
    """Run a command where a folder's packages are installed."""
    path = os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", f"{__package__}.impatient", *words.split()]
    return subprocess.run(
        ["bash", "-c", f'{limit}exec "$@"', "_", *command],
        env={**os.environ, "PYTHONPATH": path, "COLUMNS": "200", **variables},
        capture_output=True,
        text=True,
        timeout=300,
    )


def _told(done: subprocess.CompletedProcess, said: str, *, code: int = 0) -> str | None:
    """The last group of what a command said, if it ended so and wrote no escape codes."""
    found = re.search(said, done.stderr)
    is_met = done.returncode == code and "\x1b" not in done.stderr
    return found[found.re.groups] if found and is_met else None
