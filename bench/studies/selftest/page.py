"""docs/selftest.md from the data alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from textwrap import fill

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
from bench.studies.gate.verdict import GateVerdict
from bench.studies.selftest.findings import QUIET_CORES, Series, goals_of, series_of
from bench.studies.selftest.settings import BUNCH, PYTEST, TIMER
from bench.studies.selftest.trials import GATE, Origin, Trial

_WIDTH = 100
_PLACES = {False: "idle", True: "next to a load"}
_TOOLS = {GATE: "this gate", PYTEST: "pytest-benchmark", TIMER: "torch.utils.benchmark"}


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

    def paragraph(block: str) -> Prose:
        text = prose(
            __file__,
            block,
            file=file,
            num_trials=len(trials),
            count=", ".join(f"{n} by {_TOOLS[tool]}" for tool, n in counts.items() if n),
            bunch=BUNCH,
            settings=origin.settings,
        )
        return Prose(fill(text, _WIDTH, break_on_hyphens=False, break_long_words=False))

    blocks: list[Block] = [
        paragraph("introduction"),
        Prose(
            f"*{escape(machine_in_words(facts))}; method {origin.method_version}; {commit}; "
            f"{origin.started_at[:10]}; `{origin.command}`*"
        ),
        *map(Prose, _warnings(trials)),
        Heading("Goals"),
        paragraph("goals"),
        Table(
            columns=(words("goal"), Column("found"), Column("verdict")), rows=[*goals_of(trials)]
        ),
        Heading("False alarms and slowdowns found"),
        paragraph("found"),
        _found_table(series),
        Heading("The gate in detail"),
        paragraph("detail"),
        _detail_table([one for one in series if one.tool == GATE]),
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
    found = grouped(series, lambda one: (one.tool, one.is_loaded))
    rows: list[Row] = [
        {
            name: f"{_TOOLS[tool]}, {_PLACES[is_loaded]}",
            **{_found(one.percent): str(one.slower) for one in own},
            worst: max(one.worst_error for one in own),
        }
        for (tool, is_loaded), own in sorted(
            found.items(), key=lambda kv: list(_TOOLS).index(kv[0][0])
        )
    ]
    keys = [_found(percent) for percent in sorted({one.percent for one in series})]
    last = Column(worst, digits=lambda error: f"{100 * error:.1f} %")
    return Table(columns=(words(name), *map(Column, keys), last), rows=rows)


def _found(percent: int) -> str:
    return f"{percent} % found" if percent else "false alarms"


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
        for one in sorted(series, key=lambda s: (s.is_loaded, s.percent))
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
