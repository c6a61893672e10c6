"""Compare this tree with itself until all trials are made or the time is over; write the page."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any, Literal

from bench.core.cell import Cell
from bench.core.cli.errors import ConfigError
from bench.core.clock import utc_now, utc_stamp
from bench.core.format import format_duration, quantity
from bench.core.lines import Lines
from bench.core.places import CHECKOUT
from bench.core.record import METHOD_VERSION
from bench.core.settings import Budget, Folder, Interval, Settings, Some, model_validator
from bench.measuring.config import SweepConfig, read_sweep_config
from bench.measuring.measure import load
from bench.measuring.plan import plan
from bench.measuring.worker.jobs import Interrupt, Jobs
from bench.studies.gate.command import OF_A_SWEEP
from bench.studies.gate.commits import Effort, compare, latency_row
from bench.studies.gate.rows import LATENCY, GateRow, GateVerdict, confidence_tail
from bench.studies.selftest import rival_suite
from bench.studies.selftest.neighbour import neighbour
from bench.studies.selftest.page import GATE, Origin, Trial, goals_of, page_of
from bench.studies.selftest.rival_suite import BUNCH, PYTEST, TIMER
from bench.studies.session import Session

Line = Origin | Trial
MEND = "Move it away."
_LINE_EVERY_S = 30.0
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


class Trials(Settings):
    """Comparisons of each experiment."""

    unchanged: Annotated[int, Interval(ge=2, le=100_000)]
    slowdown: Annotated[int, Interval(ge=1, le=100_000)]
    rivals: Annotated[int, Interval(ge=1, le=100_000)]


class Selftest(Settings):
    """Everything but the cells, which are set as in `bench.sweep`; see conf/selftest.yaml."""

    trials: Trials
    budget: Budget
    report: bool
    rivals: Some[Literal["pytest_benchmark", "torch_timer"]]
    out: Folder
    page: Folder

    @model_validator(mode="after")
    def _is_installed(self) -> Selftest:
        is_asked = PYTEST in self.rivals and not self.report
        if is_asked and importlib.util.find_spec(PYTEST) is None:
            raise ValueError(
                "pytest-benchmark is not installed. Install it with `pip install -e '.[dev]'`, or "
                f"leave it out with rivals=[{TIMER}]."
            )
        return self


def study(asked: Selftest, session: Session) -> int:
    """Measure and publish; 1 if a goal is missed."""
    if asked.report:
        files = sorted(asked.out.glob("*.jsonl"))
        if not files:
            raise ConfigError(f"No data is in {asked.out}. `make selftest` measures it in an hour.")
        return publish(Lines[Line](files[-1], Line, mend=MEND), asked, session)
    sweep = sweep_of(session.composed)
    cells = tuple(p.cell for p in plan(sweep) if p.unsupported is None)
    if not cells:
        raise ConfigError("Nothing to compare: no cell of this plan is supported.")
    file = Lines[Line](asked.out / f"{utc_stamp()}.jsonl", Line, mend=MEND)
    settings = {
        "attention": [entry.label for entry in sweep.attention],
        "seq_len": list(sweep.axes.seq_len),
        "effort": asdict(EFFORT),
        "side_s": SIDE_S,
        "rival_threshold": RIVAL_THRESHOLD,
        "cells_per_process": CELLS_PER_PROCESS,
    }
    origin = Origin(
        command=session.command(),
        environment=session.here(sweep, ("cpu",)).to_dict(),
        method_version=METHOD_VERSION,
        settings=settings,
        started_at=utc_now(),
    )
    file.append(origin)
    run(asked, sweep, cells, file, session)
    return publish(file, asked, session)


def sweep_of(composed: Mapping[str, Any]) -> SweepConfig:
    """The sweep whose cells are compared with themselves."""
    own = {"task": {}, "seed": 0, "budget": None}  # the self-test has a budget of its own
    return read_sweep_config({**composed, **OF_A_SWEEP, **own})


def run(
    asked: Selftest, sweep: SweepConfig, cells: Sequence[Cell], file: Lines[Line], session: Session
) -> None:
    """Make the trials, and append each to a file as soon as it is made."""
    todo = units(**asked.trials.model_dump(), tools=asked.rivals)
    server, interrupt = session.server(sweep), Interrupt()
    guess = format_duration(min(asked.budget, sum(unit.expected_s for unit in todo)))
    session.say(
        f"{quantity(len(todo), 'comparison')} in about {guess}; they go to {file.path}. "
        "Leave the machine alone meanwhile."
    )
    server.start()
    jobs = Jobs(server, sweep.run.timeout_s, interrupt)
    each = session.each(
        todo,
        "trial",
        line_every_s=_LINE_EVERY_S,
        until=interrupt,
        within_s=asked.budget,
        goes_on=False,
    )
    with each as due:
        for unit in due:
            with neighbour() if unit.is_loaded else nullcontext():
                file.append(*measure(unit, cells, jobs))


def publish(file: Lines[Line], asked: Selftest, session: Session) -> int:
    """Write the page, and say which goals are met; 1 if one is missed.

    Raises:
        ConfigError: the file holds no data of the self-test.
    """
    lines = file.read()
    origin = next((line for line in lines if isinstance(line, Origin)), None)
    made = [line for line in lines if isinstance(line, Trial)]
    if origin is None:
        raise ConfigError(f"{file.path} does not say how it was made. {MEND}")
    if not made:
        session.say("There was no time for a single trial, so there is no page.")
        return 0
    goals = tuple(goals_of(made))
    for goal in goals:
        session.say(f"{goal['verdict']}: {goal['goal']}: {goal['found']}")
    session.write(page_of(file.path.name, origin, made), asked.page)
    return int(any(goal["verdict"] == "missed" for goal in goals))


# --- trials --------------------------------------------------------------------------------------


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
    found = compare(cell, cell, CHECKOUT, jobs, EFFORT, tail=tail, repeat_every=every)
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
