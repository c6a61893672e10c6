from __future__ import annotations

from dataclasses import replace

import pytest

from bench.core.record import Quality
from tests import records as made
from tests.bench.publishing.charts.boards import axis, drawn, lengths, points


def test_accuracy_is_set_against_the_longest_length_that_most_entries_have() -> None:
    explicit_stops = [
        r for r in lengths() if r.cell.entry != "softmax_explicit" or r.cell.kernel.seq_len <= 1024
    ]
    (chart,) = [c for c in drawn(explicit_stops + made.task_records()) if "recall" in c.name]
    assert axis(chart, "x")["axis"]["title"] == "Latency at 1,024 tokens (ms)"
    assert {p["name"] for p in points(chart)} == set(made.ENTRIES)


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
    shown = {p["name"]: 100 - p["y"] for p in points(chart)}
    assert shown == pytest.approx({entry: 100 * score for entry, score in scores.items()})
    assert [p["y"] for p in points(chart, "guides")] == pytest.approx([90.0, 90.0])
    most, least = axis(chart, "y")["scale"]["domain"]
    assert most > 90.0
    assert least < 100 - max(shown.values())
    assert axis(chart, "y")["axis"]["title"] == "Accuracy (%)"


def test_the_length_of_an_accuracy_is_said_where_it_is_not_that_of_the_latency() -> None:
    settings = {"seq_len": 64, "num_steps": 600}
    task = [
        replace(r, cell=replace(r.cell, workload=replace(r.cell.task, settings=settings)))
        for r in made.task_records(("softmax", "nala"))
    ]
    (chart,) = [c for c in drawn(lengths() + task) if c.name.startswith("accuracy")]
    assert axis(chart, "x")["axis"]["title"] == "Latency at 4,096 tokens (ms)"
    assert axis(chart, "y")["axis"]["title"] == "Accuracy on examples of 64 tokens (%)"


def test_seeds_are_dots_and_what_was_still_improving_has_a_star() -> None:
    task = [
        replace(
            r, result=replace(r.result, ended="maximum" if r.cell.entry == "nala" else "plateau")
        )
        for r in made.task_records(("softmax", "nala"))
    ]
    (chart,) = [c for c in drawn(lengths() + task) if c.name.startswith("accuracy")]
    assert {p["name"]: p["label"] for p in points(chart)} == {
        "nala": "nala*",
        "softmax": "softmax",
    }
    assert len(points(chart, "seeds")) == 2 * 3
    assert all(p["low"] < p["y"] < p["high"] for p in points(chart))
    assert any(note.startswith("* without a rank") for note in chart.spec["title"]["subtitle"])


def test_a_picture_says_what_its_numbers_come_from() -> None:
    task = made.task_records(("softmax", "nala"))
    for chart in drawn(lengths() + task):
        assert chart.spec["title"]["subtitle"][-1] == (
            "Imaginary 9000, 2 cores, 24 GiB, torch 2.13.0, retain allocator"
            " · commit 0000000 · 2031-05-06"
        )
