"""Packages, a variable and a limit that would stop a command, and what it says instead."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

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

SWEEP = (
    "sweep attention=[softmax,linear] seq_len=[64,1088] num_heads=1 head_dim=16 causal=true "
    "task=[] wandb.mode=disabled measure.budget_s=0.5 measure.min_rounds=15"
)
LIMIT = "ulimit -v 12000000"
"""Address space that torch can live with, and the library that draws charts cannot."""


class Ended(NamedTuple):
    """A case: its words, what the command said if it ended well, and `linear` beside it."""

    words: str
    told: str | None
    linear: Record | None = None


def ended(folder: Path) -> Iterator[Ended]:
    """Run a sweep, a list and a report, with all of these in an empty folder."""
    (site := folder / "site").mkdir()
    out = folder / "out"
    variable = _run(site, f"{SWEEP} out={out}", ATTNBENCH_SWEEP="\x1b[31mx\nb")
    told = _told(variable, r"ATTNBENCH_SWEEP is '\\x1b\[31mx\\nb'. .*must be printable", code=2)
    words = "an escape code and a new line in `ATTNBENCH_SWEEP`"
    yield Ended(words, None if out.exists() else told)

    for name, (source, _) in FATAL.items():
        install(site, name, source, f"plugin_that_{name}")
    install(site, "malformed", "", "malformed")
    points = site / "malformed-1.5.dist-info" / "entry_points.txt"
    points.write_text("[attnbench.attentions]\ni = ep print;\x1b[31mx\n")
    listed, swept = _run(site, "list"), _run(site, f"{SWEEP} out={out}")
    records = {r.cell.entry: r for r in read_records(out, missing_ok=True)}  # of the longest call
    linear = records.get("linear")
    said = r"'i' \(ep print;\\x1b\[31mx, of malformed 1.5\) is left out: (.* names no module)"
    words = "an entry point that names no module, with an escape code"
    yield Ended(words, _told(listed, said) and _told(swept, said), linear)
    for name, (source, how) in FATAL.items():
        told = _told(swept, rf"of {name} 1.5\) is left out: (.*{how})")
        yield Ended(f"an installed package with `{source}`", told, linear)

    for page in (pages := [out / "leaderboard.md", out / "leaderboard.html"]):
        page.unlink(missing_ok=True)
    limited = _run(site, f"report out={out}", limit=f"{LIMIT}; ")
    told = _told(limited, "pictures missing in .*: (vl_convert ended with .*)")
    words = f"`{LIMIT}`, of which the library for charts dies"
    yield Ended(words, told if all(page.is_file() for page in pages) else None)


def _run(site: Path, words: str, limit: str = "", **variables: str) -> subprocess.CompletedProcess:
    """Run a command where a folder's packages are installed."""
    path = os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", f"{__package__}.impatient", *words.split()]
    return subprocess.run(
        ["bash", "-c", f'{limit}exec "$@"', "_", *command],
        env={**os.environ, "PYTHONPATH": path, **variables},
        capture_output=True,
        text=True,
        timeout=300,
    )


def _told(done: subprocess.CompletedProcess, said: str, *, code: int = 0) -> str | None:
    """The last group of what a command said, if it ended so and wrote no escape codes."""
    found = re.search(said, done.stderr)
    is_met = done.returncode == code and "\x1b" not in done.stderr
    return found[found.re.groups] if found and is_met else None
