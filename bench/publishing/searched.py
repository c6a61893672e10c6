"""Choose the runs of a learning-rate search that a table of scores shows."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from bench.core.grid import Trained, best_of, found_nothing
from bench.core.grouping import grouped
from bench.core.observed import CONTROLS
from bench.core.record import Quality, Record
from bench.core.store import latest
from bench.publishing.naming import identity
from bench.publishing.scores import task_setting


def at_best_rate(records: Iterable[Record]) -> list[Record]:
    """The records of each row at the rate that did best on validation examples.

    A row is an entry with one set of hyperparameters, as one table shows it. As in a search, the
    choice is made on the seed with the most rates; of several, on the lowest with a run that is not
    stuck. Other seeds and the test set play no part. A rate with fewer seeds than another one of
    its row is not chosen. Controls, and rows with a single rate, are kept as they are. Of a row
    without any score, the runs that failed are kept, for their reasons.
    """
    rows = grouped(latest(records), searched_row)
    return [kept for row in rows.values() for kept in _best_of_row(row)]


def searched_row(record: Record) -> tuple[object, ...]:
    """A key that is equal for the runs of one row, whatever their rate and seed."""
    *place, _ = task_setting(record)
    shared = record.cell.task.shared_settings
    settings = {name: value for name, value in shared.items() if name != "learning_rate"}
    return *place, identity(record.cell), json.dumps(settings, sort_keys=True)


def _best_of_row(row: Sequence[Record]) -> list[Record]:
    rates = {record.cell.task.settings.get("learning_rate") for record in row}
    if len(rates) < 2 or None in rates or row[0].cell.mechanism in CONTROLS:
        return list(row)
    counts = Counter(record.cell.task.seed for record in row)
    most = max(counts.values())
    searches: list[dict[float, Trained]] = [
        {
            float(record.cell.task.settings["learning_rate"]): trained(record)
            for record in row
            if record.cell.task.seed == seed
        }
        for seed in sorted(counts)
        if counts[seed] == most
    ]
    runs = next((s for s in searches if not found_nothing(s.values())), searches[0])
    unit = any(isinstance(r.result, Quality) and r.result.unit for r in row)
    num_seeds = Counter(record.cell.task.settings["learning_rate"] for record in row)
    best = best_of(runs, better="lower" if unit else "higher")
    while best.rate is not None and num_seeds[best.rate] < max(num_seeds.values()):
        del runs[best.rate]
        best = best_of(runs, better="lower" if unit else "higher")
    if best.rate is None:  # no run has a score
        return [record for record in row if record.result is None]
    kept = [r for r in row if r.cell.task.settings["learning_rate"] == best.rate]
    # Runs at a rate that was given by hand belong in the table of those of the search.
    known = (record.cell.task.shared_rate for record in row)
    shared = next((rate for rate in known if rate is not None), best.rate)
    return [_labelled(record, shared, is_at_edge=best.beyond is not None) for record in kept]


def _labelled(record: Record, shared: float, *, is_at_edge: bool) -> Record:
    """The record with its rate marked as searched, beside the rate that rows share."""
    work = replace(record.cell.task, shared_rate=shared, is_at_edge=is_at_edge)
    return replace(record, cell=replace(record.cell, workload=work))


def trained(record: Record) -> Trained:
    """Score of a run on validation examples; None if it ended without one."""
    result = record.result
    if not isinstance(result, Quality) or not result.validation:
        return Trained(score=None)
    return Trained(
        score=result.validation[-1],
        steps_to_90=result.steps_to_90,
        is_stuck=bool(result.stuck_at),
    )
