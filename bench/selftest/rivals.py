"""Two other tools, asked as they are meant to be asked: one process per side, medians compared.

pytest-benchmark stores one side and fails the other by ``--benchmark-compare-fail=median:5%``;
``torch.utils.benchmark`` gives a median per process, and people compare the two. Both have the
time per side that the gate has with its first forks, and the environment of its workers.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.cell import Cell
from bench.selftest import children, rival_suite
from bench.selftest.config import Rivals, SelftestConfig
from bench.selftest.data import UNCHANGED, Line
from bench.selftest.ours import short_name
from bench.selftest.rival_child import BUNCH, ITEMS
from bench.selftest.units import Unit
from bench.worker.jobs import Interrupt


def ask_a_rival(
    unit: Unit,
    cells: Sequence[Cell],
    config: SelftestConfig,
    worker_environment: Mapping[str, str],
    interrupt: Interrupt,
) -> Line:
    """The medians of two processes: some cells; and the same ones again, unchanged and slower.

    Raises:
        Interrupted: on Ctrl-C.
        RuntimeError: a process failed.
    """
    rivals = config.rivals
    first = unit.index * rivals.cells_per_process
    chosen = [cells[(first + i) % len(cells)] for i in range(rivals.cells_per_process)]
    slowdowns = {str(every): BUNCH // every for every in rivals.repeat_every}

    def median_s(slow: dict[str, int]) -> dict[str, list[float]]:
        asked = [
            {"name": f"{index}-{word}", "cell": cell.to_dict(), "extra": extra}
            for word, extra in slow.items()
            for index, cell in enumerate(chosen)
        ]
        environment = dict(worker_environment) | {ITEMS: json.dumps(asked)}
        medians = _ask(unit.tool or "", environment, rivals, interrupt)
        numbers = range(len(chosen))
        return {w: [float(f"{medians[f'{i}-{w}']:.5g}") for i in numbers] for w in slow}

    return {
        "cells": [short_name(cell) for cell in chosen],
        "base_s": median_s({UNCHANGED: 0})[UNCHANGED],
        "current_s": median_s({UNCHANGED: 0} | slowdowns),
    }


def _ask(
    tool: str, environment: Mapping[str, str], rivals: Rivals, interrupt: Interrupt
) -> dict[str, float]:
    """The median seconds of each item, by name, from one fresh process."""
    with (
        tempfile.TemporaryDirectory(prefix="attnbench-rival-") as folder,
        tempfile.TemporaryFile() as log,
    ):
        out = Path(folder) / "medians.json"
        words = _WORDS[tool](out, rivals.budget_s)
        quiet = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        code = children.run(
            words, quiet | dict(environment), log, timeout_s=300.0, interrupt=interrupt
        )
        if code != 0 or not out.exists():
            raise RuntimeError(f"{tool} ended with {code}:\n{children.last_words(log)}")
        content = json.loads(out.read_text())
    return _medians_of_pytest(content) if tool == "pytest_benchmark" else dict(content)


def _words_for_pytest(out: Path, budget_s: float) -> list[str]:
    return [
        *("-m", "pytest", str(rival_suite.__file__), "--noconftest", "-q"),
        *("-c", "/dev/null", f"--rootdir={out.parent}"),
        *("-p", "no:cacheprovider", "-p", "pytest_benchmark.plugin"),
        *(f"--benchmark-max-time={budget_s:g}", f"--benchmark-json={out}"),
    ]


def _words_for_torch(out: Path, budget_s: float) -> list[str]:
    return ["-m", "bench.selftest.rival_child", str(out), f"{budget_s:g}"]


_WORDS = {"pytest_benchmark": _words_for_pytest, "torch_timer": _words_for_torch}


def _medians_of_pytest(content: dict[str, Any]) -> dict[str, float]:
    return {one["param"]: one["stats"]["median"] for one in content["benchmarks"]}
