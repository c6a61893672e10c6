"""docs/selftest.md: a run's findings as a page, each table with where its numbers come from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from textwrap import fill
from typing import Any

from bench.gate.verdict import Verdict
from bench.publish.markdown import escape
from bench.selftest.data import FORK, ROUNDS, Run
from bench.selftest.findings import (
    QUIET_CORES,
    Findings,
    GateSeries,
    Overhead,
    RivalSeries,
    percent_slower,
    share_words,
)
from bench.selftest.rival_child import BUNCH

_WIDTH = 100
_PLACES = {False: "idle", True: "beside the load", None: "together"}
_TOOLS = {"pytest_benchmark": "pytest-benchmark", "torch_timer": "torch.utils.benchmark"}
_MARKS = {True: "yes", False: "no", None: "not measured"}
_STEPS = {
    FORK: "fork, requests, statistics in the worker, its end",
    "build": "mechanism and inputs built",
    "first call": "first call",
    "oracle": "oracle",
    "memory": "memory passes",
    "flops": "FLOP passes",
    ROUNDS: "warm-up and timed rounds",
}


def page_of(run: Run, findings: Findings) -> str:
    """The whole page, from the data alone."""
    caption = caption_of(run)
    blocks = ["# Self-test", paragraph(_INTRODUCTION.format(file=run.path.name)), caption]
    blocks += list(_warnings(run, findings))
    goals = [(goal.words, goal.found, _MARKS[goal.is_met]) for goal in findings.goals]
    blocks += ["## Goals", table(("goal", "found", "met"), goals), caption]
    settings = run.sessions[0].settings
    for title, text, rows in (
        ("False alarms", _ALARMS, _alarm_rows(findings.alarms)),
        ("Slowdowns found", _POWER, _power_rows(findings.power)),
        ("Other tools with the same time", _RIVALS, _rival_rows(findings, settings)),
        ("Precision", _PRECISION, _precision_rows(findings)),
        ("What the harness adds", _OVERHEAD, _overhead_rows(findings.overhead)),
    ):
        header, *body = rows
        if body:
            words = paragraph(text.format(**_words(settings)))
            blocks += [f"## {title}", words, table(header, body), caption]
    return "\n\n".join(blocks) + "\n"


def paragraph(text: str) -> str:
    """Lines of one width; an option such as ``--compare`` is not broken at its hyphens."""
    return fill(text, _WIDTH, break_on_hyphens=False, break_long_words=False)


def caption_of(run: Run) -> str:
    """Machine, commit and command, to stand beside every number."""
    first = run.sessions[0]
    commits = dict.fromkeys(_commit(session.environment) for session in run.sessions)
    commands = dict.fromkeys(f"`{session.command}`" for session in run.sessions)
    days = dict.fromkeys(session.started_at[:10] for session in run.sessions)
    return (
        f"*{escape(_machine(first.environment))}; method {first.method_version}; "
        f"commit {', '.join(commits)}; {', '.join(days)}; {', then '.join(commands)}*"
    )


def _machine(facts: dict[str, Any]) -> str:
    versions = facts["versions"]
    return (
        f"{facts['processor']}, {facts['num_cores']} cores, "
        f"{facts['memory_bytes'] / 2**30:.0f} GiB, Python {versions['python']}, "
        f"torch {versions['torch']}, {facts['allocator']} allocator"
    )


def _commit(facts: dict[str, Any]) -> str:
    if facts["commit"] is None:
        return "unknown"
    dirt = " with uncommitted changes" if facts["is_dirty"] else ""
    return f"{facts['commit'][:12]}{dirt}"


def _warnings(run: Run, findings: Findings) -> Iterator[str]:
    if findings.num_disturbed:
        yield (
            f"**The machine was not idle** in {findings.num_disturbed} of the {findings.num_idle} "
            f"measurements for which it should have been: over {QUIET_CORES:g} cores were busy."
        )
    series = [*findings.alarms[:-1], *findings.power]
    broken = sum(s.verdicts[Verdict.INCOMPARABLE] for s in series)
    if broken:
        yield f"{broken} comparisons ended without a verdict, because a worker failed."


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown; the first column holds words, the others numbers."""
    lines = [header, ["---", *("--:" for _ in header[1:])], *rows]
    cells = ([line[0], *line[1:]] for line in lines)
    return "\n".join(f"| {' | '.join(escape(cell) for cell in line)} |" for line in cells)


Rows = list[Sequence[str]]


def _alarm_rows(alarms: Sequence[GateSeries]) -> Rows:
    verdicts = (Verdict.FASTER, Verdict.UNSURE, Verdict.SAME)
    rows: Rows = [("machine", "false alarms", *(str(v) for v in verdicts), "half-width", "seconds")]
    for series in alarms:
        counts = (str(series.verdicts[verdict]) for verdict in verdicts)
        rows.append(
            (_PLACES[series.is_loaded], share_words(series.slower), *counts, *_cost(series))
        )
    return rows


def _power_rows(power: Sequence[GateSeries]) -> Rows:
    rows: Rows = [
        ("machine", "slower by", "found", "UNSURE", "ratio seen", "half-width", "seconds")
    ]
    for series in power:
        rows.append(
            (
                _PLACES[series.is_loaded],
                percent_slower(series.repeat_every),
                share_words(series.slower),
                str(series.verdicts[Verdict.UNSURE]),
                _number(series.ratio, "{:.3f}"),
                *_cost(series),
            )
        )
    return rows


def _cost(series: GateSeries) -> tuple[str, str]:
    return _percent(series.half_width), _number(series.wall_s, "{:.1f}")


def _rival_rows(findings: Findings, settings: dict[str, Any]) -> Rows:
    slowdowns = [None, *settings["rivals"]["repeat_every"]]
    columns = ("false alarms", *(f"{percent_slower(every)} found" for every in slowdowns[1:]))
    rows: Rows = [("tool, machine", *columns, "worst error of a ratio")]
    for tool in dict.fromkeys(series.tool for series in findings.rivals):
        for is_loaded in (False, True):
            found = {
                series.repeat_every: series
                for series in findings.rivals
                if (series.tool, series.is_loaded) == (tool, is_loaded)
            }
            if found:
                words = f"{_TOOLS[tool]}, {_PLACES[is_loaded]}"
                rows.append((words, *_rival_cells(found, slowdowns)))
    if len(rows) > 1:
        rows += _gate_rows(findings, slowdowns)
    return rows


def _rival_cells(
    found: dict[int | None, RivalSeries], slowdowns: Sequence[int | None]
) -> Iterator[str]:
    for every in slowdowns:
        yield share_words(found[every].slower) if every in found else ""
    yield f"{100 * max(series.worst for series in found.values()):.1f} %"


def _gate_rows(findings: Findings, slowdowns: Sequence[int | None]) -> Rows:
    """The gate's own numbers in the rivals' table."""
    rows: Rows = []
    for is_loaded in (False, True):
        found = {
            series.repeat_every: series.slower
            for series in (*findings.alarms, *findings.power)
            if series.is_loaded is is_loaded
        }
        if found:
            cells = (share_words(found[every]) if every in found else "" for every in slowdowns)
            rows.append((f"this gate, {_PLACES[is_loaded]}", *cells, ""))
    return rows


def _precision_rows(findings: Findings) -> Rows:
    rows: Rows = [("cell", "idle", "beside the load")]
    for found in findings.precision:
        rows.append((found.cell, _percent(found.idle), _percent(found.loaded)))
    return rows


def _overhead_rows(overhead: Overhead | None) -> Rows:
    rows: Rows = [("part", "ms per cell")]
    if overhead is None:
        return rows
    for step, words in _STEPS.items():
        rows.append((words, f"{1e3 * overhead.steps_s.get(step, 0.0):.1f}"))
    counted = sum(overhead.steps_s.values())
    known = overhead.everything_s + overhead.steps_s.get(ROUNDS, 0.0)
    command = 1e3 * overhead.command_s / overhead.num_cells
    return [
        *rows,
        ("records, and all else in the parent", f"{1e3 * (known - counted):.1f}"),
        ("the harness: all but calls, oracle and passes", f"{1e3 * overhead.harness_s:.1f}"),
        ("everything but the timed rounds", f"{1e3 * overhead.everything_s:.1f}"),
        (
            f"the whole command, its start and its tables shared by {overhead.num_cells} cells",
            f"{command:.1f}",
        ),
    ]


def _percent(value: float | None) -> str:
    return _number(None if value is None else 100 * value, "±{:.2f} %")


def _number(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)


def _words(settings: dict[str, Any]) -> dict[str, str]:
    """What the texts below leave open."""
    effort, rivals, axes = settings["effort"], settings["rivals"], settings["axes"]
    lengths = ", ".join(str(length) for length in axes["seq_len"])
    return {
        "cells": f"{', '.join(settings['attention'])} at {lengths} tokens",
        "threshold": f"{100 * effort['threshold']:g} %",
        "forks": str(effort["num_forks"]),
        "fork_s": f"{effort['fork_s']:g}",
        "budget_s": f"{effort['budget_s']:g}",
        "repeats": ", ".join(str(every) for every in settings["power"]["repeat_every"]),
        "rival_percent": f"{100 * rivals['threshold']:g}",
        "bunch": str(BUNCH),
        "rival_s": f"{rivals['budget_s']:g}",
        "per_process": str(rivals["cells_per_process"]),
        "precision_s": f"{settings['precision']['budget_s']:g}",
    }


_INTRODUCTION = """\
How often is the regression gate wrong, how small a slowdown does it find, and what would other
tools have said? Measured by `make selftest`; every number follows from `results/selftest/{file}`,
and `python -m bench.selftest report=true` writes this page again. Intervals in brackets are exact
binomial ones of 95 % (Clopper and Pearson, 1934)."""

_ALARMS = """\
This tree against itself: whoever says SLOWER is wrong. A comparison is one of {cells}, in {forks}
fresh forks of {fork_s} s, with more of them until a verdict stands or {budget_s} s are spent; a
slowdown counts from {threshold}. Half of the comparisons ran beside a process that keeps one core
busy with matrix products and copies of 64 MiB. FASTER is wrong as well, but fails nothing; UNSURE
is listed and fails nothing. The half-width is that of the gate's interval, relative to the ratio;
it and the seconds are medians over comparisons."""

_POWER = """\
The same, with the current side slowed down: one call in {repeats} is made twice, so the size of the
slowdown is exact. Found is what was called SLOWER."""

_RIVALS = """\
Each side of a trial is timed in a process of its own, for {rival_s} s, as much as the gate gives
each side in its first forks, and in the environment of the gate's workers. A slowdown counts from
{rival_percent} %: for pytest-benchmark by `--benchmark-compare-fail=median:{rival_percent}%`, for
torch.utils.benchmark by the medians of `blocked_autorange`. Calls are timed in bunches of {bunch},
to which those are added that are made twice, so that every sample has the whole slowdown. A pair of
processes serves {per_process} cells; a cell's trials of all slowdowns share their base. The error
of a ratio is relative to its true size."""

_PRECISION = """\
Half of the 95 % interval of the speed-up over softmax, relative to the speed-up, when {precision_s}
s of rounds per cell are spent."""

_OVERHEAD = """\
A sweep of small cells, watched from outside, and the same once more by its command. The harness is
what remains when first calls, oracle, memory and FLOP passes, warm-up and timed rounds are taken
away: processes, building, records, the disk."""
