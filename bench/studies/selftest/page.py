"""docs/selftest.md from the data alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from textwrap import fill

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
from bench.studies.selftest.findings import QUIET_CORES, Series, goals_of, num_disturbed, series_of
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
    series, texts = series_of(trials), _texts(origin, trials)
    goals = [{"goal": g.words, "found": g.found, "verdict": g.verdict} for g in goals_of(trials)]
    blocks: list[Block] = [
        _paragraph("introduction", file=file, **texts),
        Prose(texts["made"]),
        *map(Prose, _warnings(trials)),
        Heading("Goals"),
        _paragraph("goals"),
        Table(columns=(words("goal"), Column("found"), Column("verdict")), rows=goals),
        Heading("False alarms and slowdowns found"),
        _paragraph("found", **texts),
        _found_table(series),
        Heading("The gate in detail"),
        _paragraph("detail"),
        _detail_table([one for one in series if one.tool == GATE]),
    ]
    return Document("Self-test", blocks)


def _paragraph(block: str, **values: str) -> Prose:
    text = prose(__file__, block, **values)
    return Prose(fill(text, _WIDTH, break_on_hyphens=False, break_long_words=False))


def _warnings(trials: Sequence[Trial]) -> Iterator[str]:
    if disturbed := num_disturbed(trials):
        idle = sum(not trial.is_loaded for trial in trials)
        yield (
            f"**The machine was not idle** in {disturbed} of the {idle} trials for which it should "
            f"have been: more than {QUIET_CORES:g} cores were busy."
        )
    if broken := sum(trial.row.verdict is GateVerdict.INCOMPARABLE for trial in trials):
        yield f"{broken} trials ended without a verdict, because a worker failed."


def _found_table(series: Sequence[Series]) -> Table:
    """A row per tool and machine state, a column per slowdown."""
    name, worst = "tool, machine", "worst error of a ratio"
    found: dict[tuple[str, bool], dict[str, Series]] = {}
    for one in series:
        found.setdefault((one.tool, one.is_loaded), {})[_found(one.percent)] = one
    rows: list[Row] = [
        {
            name: f"{_TOOLS[tool]}, {_PLACES[is_loaded]}",
            **{key: str(one.slower) for key, one in own.items()},
            worst: max(one.worst_error for one in own.values()),
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


def _texts(origin: Origin, trials: Sequence[Trial]) -> dict[str, str]:
    """Values of the texts' placeholders."""
    facts, settings = origin.environment, origin.settings
    effort = settings["effort"]
    commit = "an unknown commit"
    if facts["commit"]:
        commit = f"commit {facts['commit'][:12]}"
        commit += " with uncommitted changes" if facts["is_dirty"] else ""
    counts = {tool: sum(trial.tool == tool for trial in trials) for tool in _TOOLS}
    return {
        "made": (
            f"*{escape(machine_in_words(facts))}; method {origin.method_version}; {commit}; "
            f"{origin.started_at[:10]}; `{origin.command}`*"
        ),
        "count": ", ".join(f"{n} by {_TOOLS[tool]}" for tool, n in counts.items() if n),
        "num_trials": str(len(trials)),
        "cells": ", ".join(settings["attention"]),
        "lengths": ", ".join(map(str, settings["seq_len"])),
        "threshold": f"{100 * effort['threshold']:g}",
        "forks": str(effort["num_forks"]),
        "fork_s": f"{effort['fork_s']:g}",
        "budget_s": f"{effort['budget_s']:g}",
        "rival_percent": f"{100 * settings['rival_threshold']:g}",
        "side_s": f"{settings['side_s']:g}",
        "per_process": str(settings["cells_per_process"]),
        "bunch": str(BUNCH),
    }
