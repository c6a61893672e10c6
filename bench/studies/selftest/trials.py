"""Trials: comparisons of this tree with itself, how they are planned, made and stored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bench.core.cell import Cell
from bench.measuring.measure import load
from bench.measuring.worker.jobs import Jobs
from bench.studies.gate.commits import latency_row
from bench.studies.gate.paired import compare
from bench.studies.gate.rows import LATENCY, GateRow
from bench.studies.gate.trees import HERE
from bench.studies.gate.verdict import GateVerdict, confidence_tail
from bench.studies.selftest import rival_suite
from bench.studies.selftest.settings import BUNCH, Selftest

GATE = "gate"
_FORK_S = 0.2
"""Seconds that a fork takes besides its rounds, as a guess."""
_PROCESS_S = 3.0
"""Seconds that a rival's process takes before it times anything, as a guess."""


@dataclass(frozen=True, kw_only=True)
class Unit:
    """Unit of measurement: one comparison by the gate, or two processes of a rival.

    Attributes:
        tool: `GATE` or a rival.
        is_loaded: next to a busy process.
        index: of its first trial; it decides the cell.
        num_cells: number of cells that each process of a rival times.
        percent: slowdown of the current side for the gate; 0 for a rival, which times all of them.
        expected_s: wall time, as a guess.
    """

    tool: str
    is_loaded: bool
    index: int = 0
    num_cells: int = 1
    percent: int = 0
    expected_s: float = 0.0

    def describe(self) -> str:
        """A few words for a progress line."""
        slower = f" +{self.percent} %" if self.percent else ""
        return f"{self.tool}{slower} {'next to a load' if self.is_loaded else 'idle'}"


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One comparison as it is kept.

    Attributes:
        percent: by how much the current side was slower, by construction.
        wall_s: seconds of the comparison; for a rival, its share of the two processes.
        busy_cores: cores that were busy meanwhile, this comparison's own work included.
        row: the tool's verdict and numbers, as a row of `bench.regress`.
    """

    tool: str
    is_loaded: bool
    percent: int
    wall_s: float
    busy_cores: float
    row: GateRow


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where trials come from: the first line of their file.

    Attributes:
        settings: what the page says about how its numbers were made.
    """

    command: str
    environment: dict[str, Any]
    method_version: int
    settings: dict[str, Any]
    started_at: str


def units(asked: Selftest) -> Iterator[Unit]:
    """All units, the series mixed, so that a run stopped half-way has half of every one."""
    effort, rivals, num_rivals = asked.effort, asked.rivals, asked.trials.rivals
    gate_s = 1.15 * effort.num_forks * (effort.fork_s + _FORK_S)  # some cells need more forks
    series: list[list[Unit]] = []
    for is_loaded in (False, True):
        for percent in (0, *asked.slowdowns):
            count = asked.trials.slowdown if percent else asked.trials.unchanged // 2
            usual = Unit(tool=GATE, is_loaded=is_loaded, percent=percent, expected_s=gate_s)
            series.append([replace(usual, index=index) for index in range(count)])
        for tool in rivals.tools:
            series.append([])
            for index in range(0, num_rivals, rivals.cells_per_process):
                count = min(rivals.cells_per_process, num_rivals - index)
                num_timed = (2 + len(asked.slowdowns)) * count
                pair_s = 2 * _PROCESS_S + num_timed * (asked.side_s + 0.1)
                unit = Unit(tool=tool, is_loaded=is_loaded, index=index, expected_s=pair_s)
                series[-1].append(replace(unit, num_cells=count))
    # Sorted by the share of its series that comes before a unit; the sort is stable.
    placed = [(i / len(own), unit) for own in series for i, unit in enumerate(own)]
    yield from (unit for _, unit in sorted(placed, key=lambda one: one[0]))


def measure(unit: Unit, cells: Sequence[Cell], asked: Selftest, jobs: Jobs) -> tuple[Trial, ...]:
    """Make a unit's comparisons.

    Raises:
        Interrupted: on Ctrl-C.
        ConfigError: a rival's process failed.
    """
    before = load.snapshot()
    if unit.tool == GATE:
        rows = [(unit.percent, _ask_the_gate(unit, cells, asked, jobs))]
    else:
        rows = list(_ask_a_rival(unit, cells, asked, jobs))
    after = load.snapshot()
    wall_s = after.wall_s - before.wall_s
    return tuple(
        Trial(
            tool=unit.tool,
            is_loaded=unit.is_loaded,
            percent=percent,
            wall_s=round(wall_s / len(rows), 2),
            busy_cores=round((after.busy_s - before.busy_s) / wall_s, 2),
            row=row,
        )
        for percent, row in rows
    )


def _ask_the_gate(unit: Unit, cells: Sequence[Cell], asked: Selftest, jobs: Jobs) -> GateRow:
    """Compare one cell with itself, as `bench.regress` compares two commits."""
    cell = cells[unit.index % len(cells)]
    found = compare(
        cell,
        cell,
        HERE,
        jobs,
        asked.gate,
        tail=confidence_tail(1, asked.family_error),
        repeat_every=100 // unit.percent if unit.percent else None,
    )
    return replace(latency_row(cell, found), samples_s=())


def _ask_a_rival(
    unit: Unit, cells: Sequence[Cell], asked: Selftest, jobs: Jobs
) -> Iterator[tuple[int, GateRow]]:
    """Time some cells in one process, and again, unchanged and slowed down, in a second one."""
    chosen = [cells[(unit.index + i) % len(cells)] for i in range(unit.num_cells)]

    def medians(*percents: int) -> dict[str, float]:
        """Median seconds by ``INDEX-PERCENT`` of cell and slowdown."""
        items = [
            {"name": f"{index}-{percent}", "cell": cell.to_dict(), "extra": BUNCH * percent // 100}
            for percent in percents
            for index, cell in enumerate(chosen)
        ]
        return rival_suite.medians(unit.tool, items, asked.side_s, jobs)

    percents = (0, *asked.slowdowns)
    base, current = medians(0), medians(*percents)
    for percent in percents:
        for index, cell in enumerate(chosen):
            base_s, current_s = base[f"{index}-0"], current[f"{index}-{percent}"]
            is_slower = current_s / base_s - 1 > asked.rivals.threshold
            verdict = GateVerdict.SLOWER if is_slower else GateVerdict.SAME
            numbers = {"ratio": round(current_s / base_s, 5), "base": base_s, "current": current_s}
            yield percent, GateRow.of(cell, LATENCY, verdict, **numbers)
