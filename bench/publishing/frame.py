"""The frame: records and rows of a leaderboard as rows of plain values, by the names of columns.

Everything but the text of the leaderboard's own tables takes columns of it: ``table.csv``, the
page, and dashboards. Numbers are in base units, each with the ends of its interval beside it.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

from bench.core.format import interval_names, plain
from bench.core.record import Quality, Record, Speed, Status
from bench.core.statistics import Value, median
from bench.publishing.document import csv_cell
from bench.publishing.filters import filter_columns
from bench.publishing.leaderboard import Leaderboard, Standing
from bench.publishing.machine import commit_of, describe_machine
from bench.publishing.metrics import columns_of, evaluate
from bench.publishing.metrics.fvcore import fvcore_verdict
from bench.publishing.metrics.marks import marks, may_be_ranked
from bench.publishing.metrics.roofline import bound
from bench.publishing.scores import Score

Row = dict[str, Any]


def row_of_record(record: Record, metrics: Sequence[str]) -> Row:
    """Fields of the cell, metrics, status, machine and time, and other conclusions from the record.

    Hyperparameters and the like are JSON.
    """
    speed = record.result if isinstance(record.result, Speed) else None
    return {
        **{name: plain(value) for name, value in record.cell.to_dict().items()},
        **evaluate(record, metrics),
        **filter_columns(record),
        "status": str(record.status),
        "reason": record.reason,
        "commit": commit_of(record) or None,
        "machine": describe_machine(record),
        "started_at": record.started_at,
        "sweep": record.sweep,
        "method_version": record.method_version,
        "key": record.cell.key,
        "marks": "; ".join(marks(record)) or None,
        "reference": speed and speed.reference,
        "bound": bound(record),
        "fvcore_verdict": fvcore_verdict(record) or None,
        "sdpa_kernel": getattr(record.result, "sdpa_kernel", None),
        "checked_len": speed and speed.checked_len,
        "ended": (record.result.ended or None) if isinstance(record.result, Quality) else None,
    }


def row_of_standing(standing: Standing, metrics: Sequence[str]) -> Row:
    """A row of a ranking: its record, its rank, and the reference that it was timed beside."""
    is_unranked = not may_be_ranked(standing.record)
    own = {"is_unranked": is_unranked, "reference": standing.reference or None}
    return row_of_record(standing.record, metrics) | standing.columns | own


def row_of_score(score: Score, metrics: Sequence[str], metric: str) -> Row:
    """A row over seeds: `Score.centre` as the score, and medians of other metrics.

    `metric` is the name of the score. A median of seeds that split has no interval.
    """
    holes = [record for record in score.records if record.status is not Status.OK]
    first = holes[0] if holes and not score.accuracies else score.records[0]
    each = [evaluate(record, metrics) for record in score.records]
    shown = (score.centre, *(score.shown_interval or (None, None)))
    return {
        **row_of_record(first, metrics),
        **{name: _median(own[name] for own in each) for name in each[0]},
        **{
            name: None if value is None else score.in_unit(value)
            for name, value in zip((metric, *interval_names(metric)), shown, strict=True)
        },
        **score.columns,
        "is_unranked": not score.may_be_ranked,
        "status": "ok" if score.accuracies else str(first.status),
        "reason": holes[0].reason if holes else None,
        "num_seeds": len(score.accuracies) or None,
        "num_seeds_missing": score.num_missing,
    }


def _median(values: Iterable[Value]) -> Value:
    known = [value for value in values if value is not None]
    return known[0] if len(known) == 1 else median([float(value) for value in known])


# Cell fields in the order of columns; a field that is missing here is appended to them.
_CELL_FIELDS = (
    *("entry", "mechanism", "kind", "device", "num_threads", "dtype", "seq_len", "batch_size"),
    *("num_heads", "head_dim", "mode", "causal", "scope", "cache", "compile"),
    *("task", "task_label", "seed"),
)
_LAST = ("hyperparameters", "task_settings", "plugins")  # JSON, too wide for the middle

_METERED = ("power_cap_w", "energy_per_call_j")
"""Readings from a GPU's driver; a timed row without them is written as ``unavailable``."""


def csv_text(records: Sequence[Record], metrics: Sequence[str], board: Leaderboard) -> str:
    """RFC 4180, with a header, and one row per record of a board, in the records' order.

    None is an empty field, booleans are ``true`` and ``false``, hyperparameters and the like are
    JSON. Each token filter and share that was tried has columns of its own. ``is_latest`` is false
    for a record that a newer one of the same cell has replaced, which has no rank. Readings of a
    GPU that a timed row lacks, as every row of a CPU does, are ``unavailable``. Text that a
    spreadsheet would evaluate is prefixed with an apostrophe.
    """
    rows = {id(record): row.columns for row in board.rows for record in row.records}
    known = {name for record in records for name in record.cell.to_dict()}
    filtered = (filter_columns(record) for record in records)
    columns = (
        *_CELL_FIELDS,
        *sorted(known - set(_CELL_FIELDS) - set(_LAST)),
        *("status", "reason", "marks", "rank_first", "rank_last", "is_control"),
        *columns_of(metrics),
        *("reference", "bound", "fvcore_verdict", "sdpa_kernel", "ended"),
        *dict.fromkeys(name for own in filtered for name in own),
        *_LAST,
        *("machine", "started_at", "sweep", "method_version", "is_latest", "key"),
    )
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(columns)
    for record in records:
        row = row_of_record(record, metrics) | rows.get(id(record), {})
        row["is_latest"] = id(record) in rows
        if isinstance(record.result, Speed):
            row |= {name: "unavailable" for name in _METERED if row.get(name) is None}
        values = (row.get(name) for name in columns)
        writer.writerow(str(v).lower() if isinstance(v, bool) else csv_cell(v) for v in values)
    return text.getvalue()
