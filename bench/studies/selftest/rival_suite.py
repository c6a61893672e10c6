"""The other tools: a suite that pytest-benchmark runs, and `torch.utils.benchmark.Timer`.

Both are used as they are meant to be used: one process per side, medians compared. A process times
bunches of calls, so that a slowdown of 5 %, which is in every twentieth call, is in each sample.
The project's own tests do not collect this file.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from bench.core.cli.errors import ConfigError
from bench.measuring.worker.jobs import Interrupted, Jobs

PYTEST: Literal["pytest_benchmark"] = "pytest_benchmark"
TIMER: Literal["torch_timer"] = "torch_timer"
BUNCH = 20
"""Calls per sample, so that each sample has a slowdown of every twentieth call."""
ITEMS = "ATTNBENCH_RIVAL_ITEMS"
"""The variable that names the items: JSON, a list of objects with ``name``, ``cell``, ``extra``."""

_TIMEOUT_S = 300.0
_TAIL = 2000


def medians(
    tool: str, items: Sequence[Mapping[str, Any]], budget_s: float, jobs: Jobs
) -> dict[str, float]:
    """Median seconds of each item by its name, from one fresh process.

    Args:
        tool: a rival.
        items: as `ITEMS` holds them.
        budget_s: seconds for each item.
        jobs: gives the environment of a worker.

    Raises:
        Interrupted: on Ctrl-C, which reaches the process as well.
        ConfigError: the process failed.
    """
    with TemporaryDirectory() as folder:
        out = Path(folder) / "medians.json"
        words = ["-m", __name__, str(out), f"{budget_s:g}"]
        if tool == PYTEST:
            words = [
                *("-m", "pytest", __file__, "--noconftest", "-q", "-c", os.devnull),
                *(f"--rootdir={folder}", "-p", "no:cacheprovider", "-p", "pytest_benchmark.plugin"),
                *(f"--benchmark-max-time={budget_s:g}", f"--benchmark-json={out}"),
            ]
        code, said = run(words, jobs.server.environment() | {ITEMS: json.dumps(items)})
        if jobs.interrupt.is_asked:
            raise Interrupted
        if code != 0 or not out.exists():
            raise ConfigError(
                f"{tool} ended with {code}, so it cannot be compared; what is measured is kept. "
                f"Mend it, or leave it out of rivals. It said:\n{said}"
            )
        found: dict[str, Any] = json.loads(out.read_text())
    if tool == PYTEST:
        return {one["param"]: one["stats"]["median"] for one in found["benchmarks"]}
    return found


def run(words: Sequence[str], environment: Mapping[str, str]) -> tuple[int, str]:
    """The exit code of ``python WORDS``, and the end of its output; 124 if it took too long."""
    own = {"PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path)}
    own["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    try:
        done = subprocess.run(
            [sys.executable, *words],
            env={**os.environ, **own, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_TIMEOUT_S,
            text=True,
        )
    except subprocess.TimeoutExpired:
        return 124, f"nothing within {_TIMEOUT_S:g} s"
    return done.returncode, done.stdout[-_TAIL:].strip()


def items() -> dict[str, Callable[[], None]]:
    """Items to time, by name: `BUNCH` calls of a cell, and ``extra`` more where it is slower."""
    import torch

    from bench.core.cell import Cell
    from bench.measuring.subject import Subject

    torch.set_num_threads(1)
    built: dict[str, Subject] = {}
    found: dict[str, Callable[[], None]] = {}
    for asked in json.loads(os.environ[ITEMS]):
        cell = Cell.from_dict(asked["cell"])
        if cell.key not in built:
            built[cell.key] = Subject(cell)
            built[cell.key].rotate()
        found[asked["name"]] = partial(repeat, built[cell.key].call, BUNCH + asked["extra"])
    return found


def repeat(call: Callable[[], Any], count: int) -> None:
    """Make `count` calls."""
    for _ in range(count):
        call()


def pytest_generate_tests(metafunc: Any) -> None:
    """One benchmark per item."""
    found = items()
    metafunc.parametrize("item", found.values(), ids=found)


def test_item(benchmark: Any, item: Callable[[], None]) -> None:
    """Time it."""
    benchmark(item)


def main(out: str, budget_s: str) -> None:
    """Time every item with torch's Timer."""
    from torch.utils.benchmark import Timer

    timers = {name: Timer("call()", globals={"call": call}) for name, call in items().items()}
    found = {n: t.blocked_autorange(min_run_time=float(budget_s)).median for n, t in timers.items()}
    Path(out).write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
