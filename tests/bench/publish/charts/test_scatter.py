from __future__ import annotations

from tests import records as made
from tests.bench.publish.charts.boards import drawn, lengths, points


def test_accuracy_is_set_against_the_longest_length_that_most_entries_have() -> None:
    explicit_stops = [
        r for r in lengths() if r.cell.entry != "softmax_explicit" or r.cell.kernel.seq_len <= 1024
    ]
    (chart,) = [c for c in drawn(explicit_stops + made.task_records()) if "recall" in c.name]
    x_axis = chart.spec["layer"][1]["encoding"]["x"]["axis"]
    assert x_axis["title"] == "Latency at seq_len 1,024 (ms)"
    assert {p["entry"] for p in points(chart)} == set(made.ENTRIES)


def test_accuracy_of_one_machine_is_not_set_against_latency_of_another() -> None:
    elsewhere = made.ENVIRONMENT | {"processor": "B", "devices": {"cpu": "B"}}
    moved = [
        made.ok_record(r.cell, r.result, environment=elsewhere)  # type: ignore[arg-type]
        for r in made.task_records()
    ]
    assert [c for c in drawn(lengths() + moved) if c.name.startswith("accuracy")] == []
