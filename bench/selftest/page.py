"""docs/selftest.md from the data alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from textwrap import fill
from typing import Any

from bench.core.document import escape
from bench.gate.verdict import Verdict
from bench.publish.machine import machine_in_words
from bench.publish.markdown import table_lines
from bench.publish.tables import Table
from bench.selftest.config import BUNCH, PYTEST, TIMER
from bench.selftest.findings import (
    QUIET_CORES,
    Series,
    goals_of,
    num_disturbed,
    series_of,
)
from bench.selftest.trials import GATE, Trial
from bench.statistics import median

_WIDTH = 100
_PLACES = {False: "idle", True: "next to a load"}
_TOOLS = {GATE: "this gate", PYTEST: "pytest-benchmark", TIMER: "torch.utils.benchmark"}


def page_of(file: str, session: Mapping[str, Any], trials: Sequence[Trial]) -> str:
    """The whole page.

    Args:
        file: name of the data.
        session: environment, settings, command and start.
        trials: all of them.
    """
    series = series_of(trials)
    words = _words(session, trials)
    blocks = ["# Self-test", _paragraph(_INTRODUCTION.format(file=file, **words)), words["made"]]
    blocks += _warnings(trials)
    goals = [(goal.words, goal.found, goal.verdict) for goal in goals_of(trials)]
    blocks += ["## Goals", _paragraph(_GOALS), _table(("goal", "found", "verdict"), goals)]
    blocks += ["## False alarms and slowdowns found", _paragraph(_FOUND.format(**words))]
    blocks += [_found_table(series), "## The gate in detail", _paragraph(_DETAIL)]
    blocks.append(_detail_table([s for s in series if s.tool == GATE]))
    return "\n\n".join(blocks) + "\n"


def _paragraph(text: str) -> str:
    return fill(text, _WIDTH, break_on_hyphens=False, break_long_words=False)


def _table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    return table_lines(Table(title="", header=header, rows=tuple(rows), num_text=1))


def _warnings(trials: Sequence[Trial]) -> Iterator[str]:
    if disturbed := num_disturbed(trials):
        idle = sum(not trial.is_loaded for trial in trials)
        yield (
            f"**The machine was not idle** in {disturbed} of the {idle} trials for which it should "
            f"have been: more than {QUIET_CORES:g} cores were busy."
        )
    if broken := sum(trial.row.verdict is Verdict.INCOMPARABLE for trial in trials):
        yield f"{broken} trials ended without a verdict, because a worker failed."


def _found_table(series: Sequence[Series]) -> str:
    """A row per tool and machine state, a column per slowdown."""
    percents = sorted({s.percent for s in series})
    by_row: dict[tuple[str, bool], dict[int, Series]] = {}
    for one in series:
        by_row.setdefault((one.tool, one.is_loaded), {})[one.percent] = one
    rows = []
    for (tool, is_loaded), found in sorted(
        by_row.items(), key=lambda kv: list(_TOOLS).index(kv[0][0])
    ):
        cells = [str(found[p].slower) if p in found else "" for p in percents]
        worst = max(one.worst_error for one in found.values())
        name = f"{_TOOLS[tool]}, {_PLACES[is_loaded]}"
        rows.append((name, *cells, f"{100 * worst:.1f} %"))
    columns = [f"{percent} % found" if percent else "false alarms" for percent in percents]
    return _table(("tool, machine", *columns, "worst error of a ratio"), rows)


def _detail_table(series: Sequence[Series]) -> str:
    rows = []
    for one in sorted(series, key=lambda s: (s.is_loaded, s.percent)):
        ratio, width = median(one.ratios), one.half_width
        rows.append(
            (
                _PLACES[one.is_loaded],
                f"{one.percent} %",
                *(str(one.count(v)) for v in (Verdict.FASTER, Verdict.SAME, Verdict.UNSURE)),
                "" if ratio is None else f"{ratio:.3f}",
                "" if width is None else f"±{100 * width:.2f} %",
                f"{median([trial.wall_s for trial in one.trials]) or 0.0:.1f}",
            )
        )
    header = ("machine", "slower by", "FASTER", "SAME", "UNSURE", "ratio", "half-width", "seconds")
    return _table(header, rows)


def _words(session: Mapping[str, Any], trials: Sequence[Trial]) -> dict[str, str]:
    """What the texts leave open."""
    facts, settings = session["environment"], session["settings"]
    effort = settings["effort"]
    commit = "an unknown commit"
    if facts["commit"]:
        commit = f"commit {facts['commit'][:12]}"
        commit += " with uncommitted changes" if facts["is_dirty"] else ""
    counts = {tool: sum(trial.tool == tool for trial in trials) for tool in _TOOLS}
    return {
        "made": (
            f"*{escape(machine_in_words(facts))}; method {session['method_version']}; {commit}; "
            f"{session['started_at'][:10]}; `{session['command']}`*"
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


_INTRODUCTION = """\
How often does the regression gate raise a false alarm, how small a slowdown does it find, and what
would other tools have said? This page follows from the {num_trials} trials in
`results/selftest/{file}` ({count}). Brackets hold exact binomial intervals of 95 % (Clopper and
Pearson, 1934): with few trials they are wide. `make selftest` measures for up to an hour,
`python -m bench.selftest budget=10m` for ten minutes; `report=true` writes this page again."""

_GOALS = """\
A goal is met only if the whole interval meets it, and missed if nothing in it does. Between, so
many trials do not show it: 0 alarms of 370 end at 0.99 %, and one alarm of 370 is too many."""

_FOUND = """\
In each trial this tree is compared with itself. Unchanged, every SLOWER is a false alarm. Slowed
down, one call in 20, 10 or 5 is made twice, so the true ratio is 1.05, 1.1 or 1.2. The cells are
{cells} at {lengths} tokens. "Next to a load" means next to a process that keeps one core busy with
matrix products and copies of 64 MiB. The gate runs both sides in one process, in {forks} forks of
{fork_s} s, and adds forks until it is sure or {budget_s} s are spent; a slowdown counts from
{threshold} %. The other tools get a process per side and {side_s} s of timing in it, as much as the
gate's first forks give a side; they compare medians, and a slowdown counts from {rival_percent} %
(pytest-benchmark: `--benchmark-compare-fail=median:{rival_percent}%`). They time calls in bunches
of {bunch}, so that each sample holds the whole slowdown. Two of their processes serve up to
{per_process} trials. The error of a ratio is relative to its true size."""

_DETAIL = """\
UNSURE and FASTER fail nothing. Ratio, half-width of its interval (relative to the ratio) and
seconds are medians over trials."""
