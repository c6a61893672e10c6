from __future__ import annotations

from bench.publishing.sinks.long_table import COLUMNS, long_rows
from tests import records as made

METRICS = ("latency_s", "speedup_over", "speedup_over_low", "speedup_over_high", "accuracy")


def test_every_number_is_a_row_and_every_sweep_has_the_same_columns() -> None:
    timed, trained = made.block_records(["softmax", "nala"]), made.task_records(["nala"])
    for records, metrics in ((timed, {"latency_s", "speedup_over"}), (trained, {"accuracy"})):
        columns, rows = long_rows(records, METRICS)
        assert columns == COLUMNS
        assert {row["metric"] for row in rows} == metrics
        assert all(set(row) <= set(COLUMNS) for row in rows)


def test_ends_of_an_interval_stand_beside_their_number() -> None:
    _, rows = long_rows(made.block_records(["softmax", "nala"]), METRICS)
    for row in rows:
        assert row["low"] <= row["value"] <= row["high"]


def test_a_cell_without_a_number_has_a_row_with_its_reason() -> None:
    failures = made.one_of_each_failure()
    _, rows = long_rows(failures, METRICS)
    assert [row["reason"] for row in rows] == [record.reason for record in failures]
    assert not any("value" in row for row in rows)
