"""Compare this source tree with another commit, cell by cell, in one process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

from bench.core.cell import Cell
from bench.core.clock import now_s
from bench.core.format import format_duration
from bench.core.rows import settings_of
from bench.measuring.sharing.devices import alone_on
from bench.measuring.worker.jobs import Jobs
from bench.measuring.worker.outcome import Outcome
from bench.measuring.worker.results import TRAIN, TRIAL, TrainResult, TrialResult
from bench.studies.gate.exact import by_channel, exact_rows
from bench.studies.gate.paired import Effort, PairedComparison, compare
from bench.studies.gate.rows import LATENCY, GateRow, channel_of
from bench.studies.gate.trees import HERE, Tree
from bench.studies.gate.verdict import GateVerdict, confidence_tail

EntryReader = Callable[[str], dict[str, Any] | None]
"""Reads an entry of the base tree by label: its mechanism and settings; None if it is not there."""


def compare_commits(
    cells: Sequence[Cell],
    base: Tree,
    base_entry: EntryReader,
    jobs: Jobs,
    effort: Effort,
    family_error: float,
    say: Callable[[str], None],
) -> Iterator[GateRow]:
    """Rows of all cells; of each cell, numbers without noise first, then its time.

    The family-wise error is divided among the cells that are timed.
    """
    tail = confidence_tail(max(1, sum(not cell.is_task for cell in cells)), family_error)
    started = now_s()
    for done, cell in enumerate(cells):
        left_s = (now_s() - started) / done * (len(cells) - done) if done else None
        left = "" if left_s is None else f", {format_duration(left_s)} left"
        entry = base_entry(cell.entry)
        if entry is None:
            reason = f"the base has no entry {cell.entry}"
            yield GateRow.of(cell, channel_of(cell), GateVerdict.NEW, reason=reason)
            continue
        with nullcontext() if cell.is_task else alone_on(cell.device, jobs.interrupt.pause, say):
            say(f"[{done + 1}/{len(cells)}{left}] {cell.describe()}")
            yield from _compare_cell(cell, _as_in_base(cell, entry), base, jobs, effort, tail)


def _as_in_base(cell: Cell, entry: dict[str, Any]) -> Cell:
    """The cell with the base's settings of its row; what the command line sets holds for both."""
    here = settings_of(cell.entry) or cell.hyperparameters
    settings = entry | {k: v for k, v in cell.hyperparameters.items() if here.get(k, ...) != v}
    mechanism = settings.pop("mechanism")
    return replace(cell, mechanism=mechanism, hyperparameters=settings)


def _compare_cell(
    cell: Cell, there: Cell, base: Tree, jobs: Jobs, effort: Effort, tail: float
) -> Iterator[GateRow]:
    before = _observe(there, jobs, str(base.root))
    after = _observe(cell, jobs, None)
    if not after.is_ok:
        reason = f"this tree cannot run it: {after.status}: {after.reason}"
        verdict = GateVerdict.BROKEN if before.is_ok else GateVerdict.INCOMPARABLE
        yield GateRow.of(cell, channel_of(cell), verdict, reason=reason)
        return
    if not before.is_ok:
        reason = f"the base cannot run it: {before.status}: {before.reason}"
        yield GateRow.of(cell, channel_of(cell), GateVerdict.INCOMPARABLE, reason=reason)
        return
    numbers = [by_channel(side.found.observed()) for side in (before, after)]
    yield from exact_rows(cell, *numbers)
    if cell.is_task:
        return
    comparison = compare(there, cell, base.root, jobs, effort, tail=tail)
    if comparison.interval is None:
        comparison = _who_ended_it(cell, comparison, jobs, effort, tail)
    yield latency_row(cell, comparison)


def _who_ended_it(
    cell: Cell, comparison: PairedComparison, jobs: Jobs, effort: Effort, tail: float
) -> PairedComparison:
    """Find out whether this tree is to blame for a failure while both sides were timed.

    It is if timing it against itself, in a new process, fails as well.
    """
    once = replace(effort, num_forks=1, budget_s=0.0)
    alone = compare(cell, cell, HERE, jobs, once, tail=tail)
    if alone.interval is not None:
        return replace(comparison, reason=f"timing both sides failed: {comparison.reason}")
    reason = f"this tree cannot be timed: {alone.reason}"
    return replace(comparison, verdict=GateVerdict.BROKEN, reason=reason)


def _observe(
    cell: Cell, jobs: Jobs, root: str | None
) -> Outcome[TrialResult] | Outcome[TrainResult]:
    request: dict[str, Any] = {"plugins": cell.plugins, "cell": cell.to_dict(), "root": root}
    return jobs.do(TRAIN, **request) if cell.is_task else jobs.do(TRIAL, **request)


def latency_row(cell: Cell, comparison: PairedComparison) -> GateRow:
    """The row of a cell's times."""
    interval = comparison.interval
    return GateRow.of(
        cell,
        LATENCY,
        comparison.verdict,
        ratio=interval.median if interval else None,
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        current=comparison.latency_s,
        reason=comparison.reason,
    )
