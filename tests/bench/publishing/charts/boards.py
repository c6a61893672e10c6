"""Charts of records that were never measured, and what is drawn in them."""

from typing import Any

from bench.core.record import Record
from bench.publishing.charts import Chart, charts
from bench.publishing.leaderboard import build_leaderboard
from tests import records as made


def drawn(records: list[Record]) -> tuple[Chart, ...]:
    board = build_leaderboard(records, ("uniform", "none"))
    return charts(board)


def lengths(entries: tuple[str, ...] = made.ENTRIES, **shape: Any) -> list[Record]:
    return [r for n in (256, 1024, 4096) for r in made.block_records(entries, seq_len=n, **shape)]


def points(chart: Chart, data: str = "points") -> list[dict[str, Any]]:
    values: list[dict[str, Any]] = chart.spec["datasets"].get(data, [])
    return values
