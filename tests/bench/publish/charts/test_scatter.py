from __future__ import annotations

import pytest

from bench.record import Quality
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


def test_accuracy_chance_and_their_axis_are_in_per_cent() -> None:
    task = made.task_records(("softmax", "none"), task="digits", seeds=(0,))
    (chart,) = [c for c in drawn(lengths() + task) if c.name.startswith("accuracy")]
    scores = {r.cell.entry: r.result.accuracy for r in task if isinstance(r.result, Quality)}
    shown = {p["entry"]: p["accuracy"] for p in points(chart)}
    assert shown == pytest.approx({entry: 100 * score for entry, score in scores.items()})
    line = chart.spec["layer"][0]
    assert line["data"]["values"] == [{"accuracy": pytest.approx(10.0)}]
    low, high = line["encoding"]["y"]["scale"]["domain"]
    assert (low, high) == (pytest.approx(4.0), 103.0)
    assert line["encoding"]["y"]["axis"]["title"] == "Accuracy (%)"
