"""All numbers as CSV, a line for each entry and place."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict

from bench.mechanisms.findings import Row
from bench.statistics import Ratio

FILE = "mechanisms.csv"


def csv_of(rows: Sequence[Row]) -> str:
    """The text; an empty field is a number that is not known."""
    flat = [_flat(row) for row in rows]
    text = io.StringIO()
    if flat:
        writer = csv.DictWriter(text, flat[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(flat)
    return text.getvalue()


def _flat(row: Row) -> dict[str, object]:
    return {
        "entry": row.entry,
        "against": row.against,
        **asdict(row.place),
        "latency_s": _digits(row.latency_s),
        **_ratio("ratio", row.ratio),
        **_ratio("softmax_ratio", row.softmax_ratio),
        "floor_fraction": _digits(row.floor_fraction),
        "floor_fraction_by_mm": _digits(row.floor_fraction_by_mm),
        "saved_bytes_per_token": _digits(row.saved_bytes_per_token),
        "is_slower": row.is_slower,
        "is_noisy": row.is_noisy,
    }


def _ratio(name: str, ratio: Ratio | None) -> dict[str, object]:
    low, high = (ratio.low, ratio.high) if ratio else (None, None)
    return {
        name: _digits(ratio.median if ratio else None),
        f"{name}_low": _digits(low),
        f"{name}_high": _digits(high),
        f"{name}_rounds": ratio.num_rounds if ratio else None,
    }


def _digits(value: float | None) -> str | None:
    return None if value is None else f"{value:.5g}"
