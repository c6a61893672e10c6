"""Trials: comparisons of this tree with itself, how they are planned, made and stored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bench.core.cell import Cell
from bench.measuring.measure import load
from bench.measuring.worker.jobs import Jobs
from bench.studies.gate.commits import HERE, Effort, compare, latency_row
from bench.studies.gate.rows import LATENCY, GateRow, GateVerdict, confidence_tail
from bench.studies.selftest import rival_suite
from bench.studies.selftest.rival_suite import BUNCH

GATE = "gate"
SLOWDOWNS = (5, 10, 20)
"""In per cent: one call in 20, 10 or 5 runs twice."""
EFFORT = Effort(fork_s=0.2, budget_s=4.0)
"""Effort of the gate: less time per cell than in `bench.regress`, to fit in more trials."""
RIVAL_THRESHOLD = 0.05
"""Slowdown that counts for a rival, as a share."""
SIDE_S = EFFORT.num_forks * EFFORT.fork_s / 2
"""Seconds that a rival times each side, as many as the gate's first forks do."""
CELLS_PER_PROCESS = 5
_FORK_S, _PROCESS_S = 0.2, 3.0
"""Seconds that a fork, and a rival's process, take besides what they time, as a guess."""


@dataclass(frozen=True, kw_only=True)
class Unit:
    """Unit of measurement: one comparison by the gate, or two processes of a rival.

    Attributes:
        tool: `GATE` or a rival.
        is_loaded: next to a busy process.
        index: of its first trial; it decides the cell.
        num_cells: number of cells that each process of a rival times.
        percent: slowdown of the current side for the gate; 0 for a rival, which times all of them.
    """

    tool: str
    is_loaded: bool
    index: int = 0
    num_cells: int = 1
    percent: int = 0

    @property
    def expected_s(self) -> float:
        """Wall time in seconds, as a guess."""
        if self.tool == GATE:  # some cells need more forks
            return 1.15 * EFFORT.num_forks * (EFFORT.fork_s + _FORK_S)
        return 2 * _PROCESS_S + (2 + len(SLOWDOWNS)) * self.num_cells * (SIDE_S + 0.1)

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


def units(unchanged: int, slowdown: int, rivals: int, tools: Sequence[str]) -> list[Unit]:
    """All units, the series mixed, so that a run stopped half-way has half of every one.

    Args:
        unchanged: trials of the gate without a slowdown, half of them next to a load.
        slowdown: trials of the gate for each slowdown and machine state.
        rivals: trials of each rival for each slowdown and none, and machine state.
        tools: the rivals.
    """
    series: list[list[Unit]] = []
    for is_loaded in (False, True):
        for percent in (0, *SLOWDOWNS):
            usual = Unit(tool=GATE, is_loaded=is_loaded, percent=percent)
            count = slowdown if percent else (unchanged + 1 - is_loaded) // 2
            series.append([replace(usual, index=index) for index in range(count)])
        for tool in tools:
            usual = Unit(tool=tool, is_loaded=is_loaded)
            series.append(
                [
                    replace(usual, index=index, num_cells=min(CELLS_PER_PROCESS, rivals - index))
                    for index in range(0, rivals, CELLS_PER_PROCESS)
                ]
            )
    # Sorted by the share of its series that comes before a unit; the sort is stable.
    placed = [(i / len(own), unit) for own in series for i, unit in enumerate(own)]
    return [unit for _, unit in sorted(placed, key=lambda one: one[0])]


def measure(unit: Unit, cells: Sequence[Cell], jobs: Jobs) -> tuple[Trial, ...]:
    """Make a unit's comparisons.

    Raises:
        Interrupted: on Ctrl-C.
        ConfigError: a rival's process failed.
    """
    before = load.snapshot()
    if unit.tool == GATE:
        rows = [(unit.percent, _ask_the_gate(unit, cells[unit.index % len(cells)], jobs))]
    else:
        rows = list(_ask_a_rival(unit, cells, jobs))
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


def _ask_the_gate(unit: Unit, cell: Cell, jobs: Jobs) -> GateRow:
    """Compare one cell with itself, as `bench.regress` compares two commits."""
    every = 100 // unit.percent if unit.percent else None
    tail = confidence_tail(1)
    found = compare(cell, cell, HERE, jobs, EFFORT, tail=tail, repeat_every=every)
    return latency_row(cell, found)


def _ask_a_rival(unit: Unit, cells: Sequence[Cell], jobs: Jobs) -> Iterator[tuple[int, GateRow]]:
    """Time some cells in one process, and again, unchanged and slowed down, in a second one."""
    chosen = [cells[(unit.index + i) % len(cells)] for i in range(unit.num_cells)]

    def medians(*percents: int) -> dict[str, float]:
        """Median seconds by ``INDEX-PERCENT`` of cell and slowdown."""
        items = [
            {"name": f"{index}-{percent}", "cell": cell.to_dict(), "extra": BUNCH * percent // 100}
            for percent in percents
            for index, cell in enumerate(chosen)
        ]
        return rival_suite.medians(unit.tool, items, SIDE_S, jobs)

    base, current = medians(0), medians(0, *SLOWDOWNS)
    for percent in (0, *SLOWDOWNS):
        for index, cell in enumerate(chosen):
            base_s, current_s = base[f"{index}-0"], current[f"{index}-{percent}"]
            is_slower = current_s > (1 + RIVAL_THRESHOLD) * base_s
            verdict = GateVerdict.SLOWER if is_slower else GateVerdict.SAME
            numbers = {"ratio": round(current_s / base_s, 5), "base": base_s, "current": current_s}
            yield percent, GateRow.of(cell, LATENCY, verdict, **numbers)
