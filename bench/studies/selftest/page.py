"""docs/selftest.md from the data alone: shares of verdicts, widths of intervals, and goals."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from textwrap import fill
from typing import Any

from bench.core.grouping import grouped
from bench.core.statistics import median
from bench.publishing.document import (
    Block,
    Column,
    Document,
    Heading,
    Prose,
    Row,
    Table,
    escape,
    words,
)
from bench.publishing.machine import machine_in_words
from bench.publishing.templates import prose
from bench.studies.gate.rows import GateRow, GateVerdict
from bench.studies.selftest.rival_suite import BUNCH, PYTEST, TIMER

GATE = "gate"
MAX_FALSE_ALARMS = 0.01
MIN_POWER = 0.95
SURELY_FOUND_LOADED = 10
"""The smallest slowdown, in per cent, that the gate has to find next to a load."""

QUIET_CORES = 1.25
"""Most busy cores of a machine that counts as idle, the measured call's own included."""

_WIDTH = 100
_PLACES = {False: "idle", True: "next to a load"}
_TOOLS = {GATE: "this gate", PYTEST: "pytest-benchmark", TIMER: "torch.utils.benchmark"}


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


@dataclass(frozen=True, kw_only=True)
class Share:
    """A number of hits among trials."""

    hits: int
    trials: int

    @cached_property
    def interval(self) -> tuple[float, float]:
        """Exact 95 % interval of the share: Clopper and Pearson, Biometrika 26 (1934), 404."""
        from scipy import stats

        found = stats.binomtest(self.hits, self.trials).proportion_ci(0.95, method="exact")
        return float(found.low), float(found.high)

    def __str__(self) -> str:
        """As ``2 of 300 = 0.7 % [0.1, 2.4]``."""
        low, high = (100 * end for end in self.interval)
        share = 100 * self.hits / self.trials
        return f"{self.hits} of {self.trials} = {share:.1f} % [{low:.1f}, {high:.1f}]"


@dataclass(frozen=True, kw_only=True)
class Series:
    """The trials of one tool, one machine state and one slowdown."""

    tool: str
    is_loaded: bool
    percent: int
    trials: Sequence[Trial]

    @property
    def place(self) -> str:
        """As ``this gate, next to a load``."""
        return f"{_TOOLS[self.tool]}, {_PLACES[self.is_loaded]}"

    @property
    def slower(self) -> Share:
        """Share of trials that fail a commit: false alarms, or slowdowns that were found."""
        return Share(hits=self.count(GateVerdict.SLOWER), trials=len(self.trials))

    def count(self, verdict: GateVerdict) -> int:
        """Number of trials that ended with a verdict."""
        return sum(trial.row.verdict is verdict for trial in self.trials)

    @property
    def ratios(self) -> list[float]:
        """Current over base, for the trials that have a ratio."""
        return [trial.row.ratio for trial in self.trials if trial.row.ratio is not None]

    @property
    def worst_error(self) -> float:
        """The largest relative error of a ratio, either way."""
        true = 1 + self.percent / 100
        return max((abs(ratio / true - 1) for ratio in self.ratios), default=0.0)

    @property
    def half_width(self) -> float | None:
        """Median half-width of the intervals, relative to the ratio; None if there are none."""
        rows = [trial.row for trial in self.trials]
        return median(
            [(r.high - r.low) / 2 / r.ratio for r in rows if r.low and r.high and r.ratio]
        )


def series_of(trials: Sequence[Trial]) -> list[Series]:
    """All series, by tool, machine state and slowdown."""
    groups = grouped(trials, lambda trial: (trial.tool, trial.is_loaded, trial.percent))
    found = [
        Series(tool=tool, is_loaded=is_loaded, percent=percent, trials=own)
        for (tool, is_loaded, percent), own in groups.items()
    ]
    return sorted(found, key=lambda one: ([*_TOOLS].index(one.tool), one.is_loaded, one.percent))


def goals_of(trials: Sequence[Trial]) -> Iterator[dict[str, str]]:
    """Goals of the gate as rows of a table: ``goal`` in words, what was ``found``, and ``verdict``.

    The verdict is ``met`` if the whole interval meets the goal, and ``missed`` if nothing in it
    does; else ``not met``: the trials are too few to show it.
    """
    of_gate = [series for series in series_of(trials) if series.tool == GATE]
    unchanged = [trial for series in of_gate if not series.percent for trial in series.trials]
    if unchanged:
        alarms = Series(tool=GATE, is_loaded=False, percent=0, trials=unchanged).slower
        goal = f"at most {100 * MAX_FALSE_ALARMS:g} % false alarms, idle and next to a load"
        yield _goal(goal, alarms, lambda share: share <= MAX_FALSE_ALARMS)
    for one in of_gate:
        if one.percent and (not one.is_loaded or one.percent >= SURELY_FOUND_LOADED):
            often = f"{100 * MIN_POWER:g} times in 100, {_PLACES[one.is_loaded]}"
            goal = f"{one.percent} % slower is found {often}"
            yield _goal(goal, one.slower, lambda share: share >= MIN_POWER)


def _goal(goal: str, share: Share, holds: Callable[[float], bool]) -> dict[str, str]:
    held = [holds(end) for end in share.interval]
    verdict = "met" if all(held) else "not met" if any(held) else "missed"
    return {"goal": goal, "found": str(share), "verdict": verdict}


def page_of(file: str, origin: Origin, trials: Sequence[Trial]) -> Document:
    """The page as a document.

    Args:
        file: name of the data file.
        origin: environment, settings, command and start.
        trials: all trials of that file.
    """
    series, facts = series_of(trials), origin.environment
    counts = {tool: sum(trial.tool == tool for trial in trials) for tool in _TOOLS}
    commit = f"commit {facts['commit'][:12]}" if facts["commit"] else "an unknown commit"
    commit += " with uncommitted changes" * bool(facts["commit"] and facts["is_dirty"])
    said = {
        "file": file,
        "num_trials": len(trials),
        "count": ", ".join(f"{n} by {_TOOLS[tool]}" for tool, n in counts.items() if n),
        "bunch": BUNCH,
        "settings": origin.settings,
    }

    def paragraph(block: str) -> Prose:
        text = prose(__file__, block, **said)
        return Prose(fill(text, _WIDTH, break_on_hyphens=False, break_long_words=False))

    columns = (words("goal"), Column("found"), Column("verdict"))
    goals = Table(columns=columns, rows=[*goals_of(trials)])
    blocks: list[Block] = [
        paragraph("introduction"),
        Prose(
            f"*{escape(machine_in_words(facts))}; method {origin.method_version}; {commit}; "
            f"{origin.started_at[:10]}; `{origin.command}`*"
        ),
        *map(Prose, _warnings(trials)),
        *(Heading("Goals"), paragraph("goals"), goals),
        *(Heading("False alarms and slowdowns found"), paragraph("found"), _found_table(series)),
        *(Heading("The gate in detail"), paragraph("detail"), _detail_table(series)),
    ]
    return Document("Self-test", blocks)


def _warnings(trials: Sequence[Trial]) -> Iterator[str]:
    idle = [trial for trial in trials if not trial.is_loaded]
    if busy := sum(trial.busy_cores > QUIET_CORES for trial in idle):
        yield (
            f"**The machine was not idle** in {busy} of the {len(idle)} trials for which it should "
            f"have been: more than {QUIET_CORES:g} cores were busy."
        )
    if broken := sum(trial.row.verdict is GateVerdict.INCOMPARABLE for trial in trials):
        yield f"{broken} trials ended without a verdict, because a worker failed."


def _found_table(series: Sequence[Series]) -> Table:
    """A row per tool and machine state, a column per slowdown."""
    name, worst = "tool, machine", "worst error of a ratio"
    percents = sorted({one.percent for one in series})
    titles = {percent: f"{percent} % found" if percent else "false alarms" for percent in percents}
    rows: list[Row] = [
        {
            name: place,
            **{titles[one.percent]: str(one.slower) for one in own},
            worst: max(one.worst_error for one in own),
        }
        for place, own in grouped(series, lambda one: one.place).items()
    ]
    last = Column(worst, digits=lambda error: f"{100 * error:.1f} %")
    return Table(columns=(words(name), *map(Column, titles.values()), last), rows=rows)


def _detail_table(series: Sequence[Series]) -> Table:
    verdicts = (GateVerdict.FASTER, GateVerdict.SAME, GateVerdict.UNSURE)
    rows: list[Row] = [
        {
            "machine": _PLACES[one.is_loaded],
            "slower by": one.percent,
            **{str(verdict): one.count(verdict) for verdict in verdicts},
            "ratio": median(one.ratios),
            "half-width": one.half_width,
            "seconds": median([trial.wall_s for trial in one.trials]) or 0.0,
        }
        for one in series
        if one.tool == GATE
    ]
    columns = (
        words("machine"),
        Column("slower by", digits=lambda percent: f"{percent:.0f} %"),
        *(Column(str(verdict), digits=".0f") for verdict in verdicts),
        Column("ratio"),
        Column("half-width", digits=lambda width: f"±{100 * width:.2f} %"),
        Column("seconds", digits=".1f"),
    )
    return Table(columns=columns, rows=rows)
