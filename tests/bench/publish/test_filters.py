"""Token filters in tables: beside the whole model, with oracles named and reasons said."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bench.publish.leaderboard import build_leaderboard
from bench.publish.task_tables import task_sections
from bench.record import Filtered, Quality, Record
from tests import records as made


def row(name: str, accuracy: float, **changes: Any) -> Filtered:
    made_up: Any = {
        "filter": name,
        "keep": 0.5,
        "num_tokens": 19,
        "accuracy": accuracy,
        "flops": 300,
        "latency_s": [1.0] * 15,
        "unfiltered_latency_s": [2.0] * 15,
    }
    return made_up | changes  # type: ignore[no-any-return]


def with_filters(*rows: Filtered) -> list[Record]:
    (record,) = made.task_records(["softmax"], seeds=[0])
    assert isinstance(record.result, Quality)
    result = replace(record.result, accuracy=0.9, flops=1000, filtered=rows)
    return [replace(record, result=result)]


def test_each_filter_stands_beside_the_whole_model() -> None:
    records = with_filters(
        row("random", 0.5),
        row("object_rate", 0.8),
        {"filter": "attention_rate", "keep": 0.5, "reason": "it owns its projections."},
    )
    (section,) = task_sections(build_leaderboard(records, metrics=(), controls=("none",)))
    (table,) = [table for table in section.tables if "token filters" in table.title]
    assert table.rows == (
        ("softmax", "whole model", "1", "", "90.0", "1", "100"),
        ("softmax", "object_rate (oracle)", "0.5", "19", "80.0", "2.00 [2.00, 2.00]", "30.0"),
        ("softmax", "random", "0.5", "19", "50.0", "2.00 [2.00, 2.00]", "30.0"),
    )
    notes = " ".join(section.notes)
    assert "object_rate is an oracle" in notes
    assert "softmax has no attention_rate: it owns its projections." in notes


def test_a_record_with_filters_is_read_as_it_was_written() -> None:
    (record,) = with_filters(row("random", 0.5))
    assert Record.from_json(record.to_json()) == record


@pytest.mark.parametrize("change", [{"keep": 1.5}, {"latency_s": [-1.0]}, {"num_tokens": 0}])
def test_a_filter_that_cannot_be_is_no_record(change: dict[str, Any]) -> None:
    (record,) = with_filters(row("random", 0.5, **change))
    with pytest.raises(ValueError, match="is"):
        Record.from_json(record.to_json())
