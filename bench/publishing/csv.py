"""Every record as one flat row, for spreadsheets and data frames."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from bench.core.record import Record, Speed
from bench.core.store import latest
from bench.publishing.document import csv_cell
from bench.publishing.filters import filter_columns
from bench.publishing.frame import frame

# Cell fields in the order of columns; a field that is missing here is appended to them.
_CELL_FIELDS = (
    *("entry", "mechanism", "kind", "device", "num_threads", "dtype", "seq_len", "batch_size"),
    *("num_heads", "head_dim", "mode", "causal", "scope", "cache", "compile"),
    *("task", "task_label", "seed"),
)
_LAST = ("hyperparameters", "task_settings", "plugins")  # JSON, too wide for the middle

_METERED = ("power_cap_w", "energy_per_call_j")
"""Readings from a GPU's driver; a timed row without them is written as ``unavailable``."""


def csv_text(records: Sequence[Record], metrics: Sequence[str]) -> str:
    """RFC 4180, with a header, and one row per record, in the records' order.

    None is an empty field, booleans are ``true`` and ``false``, hyperparameters and the like are
    JSON. Each token filter and share that was tried has columns of its own. ``is_latest`` is false
    for a record that a newer one of the same cell has replaced. Readings of a GPU that a timed row
    lacks, as every row of a CPU does, are ``unavailable``. Text that a spreadsheet would evaluate
    is prefixed with an apostrophe.
    """
    newest = {id(record) for record in latest(records)}
    known = {name for record in records for name in record.cell.to_dict()}
    filtered = (filter_columns(record) for record in records)
    columns = (
        *_CELL_FIELDS,
        *sorted(known - set(_CELL_FIELDS) - set(_LAST)),
        *("status", "reason", "marks"),
        *metrics,
        *("reference", "bound", "sdpa_kernel", "ended"),
        *dict.fromkeys(name for own in filtered for name in own),
        *_LAST,
        *("machine", "started_at", "sweep", "method_version", "is_latest", "key"),
    )
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(columns)
    for row, record in zip(frame(records, metrics), records, strict=True):
        row["is_latest"] = id(record) in newest
        if isinstance(record.result, Speed):
            row |= {name: "unavailable" for name in _METERED if row.get(name) is None}
        values = (row.get(name) for name in columns)
        writer.writerow(str(v).lower() if isinstance(v, bool) else csv_cell(v) for v in values)
    return text.getvalue()
