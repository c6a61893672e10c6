"""Accuracy against pairs and against length: one chart for what differs in these alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.core.record import Record
from bench.publishing.charts import Chart, charts
from bench.publishing.leaderboard import build_leaderboard
from tests import records as made
from tests.bench.publishing.charts.boards import points


def trained(entry: str, accuracy: float, longer: dict[str, float], **settings: object) -> Record:
    words = f" num_pairs={settings['num_pairs']}" if "num_pairs" in settings else ""
    (record,) = made.task_records([entry], seeds=[0])
    work = replace(record.cell.task, label=f"recall{words}", settings=settings)
    result = replace(record.result, accuracy=accuracy, longer=longer)
    return replace(record, cell=replace(record.cell, workload=work), result=result)


def drawn(records: list[Record]) -> dict[str, list[tuple[str, int, float]]]:
    """Points of each chart by its name."""
    board = build_leaderboard(records)
    return {
        chart.name: [
            (point["name"], point["x"], pytest.approx(100 - point["y"])) for point in points(chart)
        ]
        for chart in charts(board)
    }


def test_tasks_that_differ_in_pairs_alone_are_one_picture() -> None:
    records = [
        trained("softmax", 1.0, {}, num_pairs=4, seq_len=64),
        trained("softmax", 0.5, {}, num_pairs=8, seq_len=64),
        trained("softmax", 0.25, {}, num_pairs=16, seq_len=128),  # another length, too
    ]
    assert drawn(records) == {
        "capacity-recall-cpu-1-thread": [("softmax", 4, 100.0), ("softmax", 8, 50.0)]
    }


def test_what_a_model_keeps_stands_beside_what_it_recalls() -> None:
    records = [
        replace(r, result=replace(r.result, state_bytes=8704))
        for r in (trained("linear", 1.0, {}, num_pairs=n, seq_len=64) for n in (4, 8))
    ]
    board = build_leaderboard(records)
    (chart,) = charts(board)
    assert {point["label"] for point in points(chart)} == {"linear, 8.50 KiB"}
    assert any("what all layers keep" in note for note in chart.spec["title"]["subtitle"])


def test_a_model_that_was_tested_on_longer_examples_is_drawn_from_its_own_length_on() -> None:
    records = [
        trained("softmax", 1.0, {"128": 0.5, "256": 0.25}, seq_len=64),
        trained("none", 0.05, {}, seq_len=64),  # was not
    ]
    assert drawn(records) == {
        "extrapolation-recall-cpu-1-thread": [
            ("softmax", 64, 100.0),
            ("softmax", 128, 50.0),
            ("softmax", 256, 25.0),
        ]
    }


def test_two_pictures_of_one_name_are_two_files() -> None:
    records = [
        trained("softmax", 1.0, {"128": 0.5}, seq_len=64, batch_size=size) for size in (8, 16)
    ]
    assert list(drawn(records)) == [
        "extrapolation-recall-cpu-1-thread",
        "extrapolation-recall-cpu-1-thread-2",
    ]


def only_chart(records: list[Record]) -> Chart:
    (chart,) = charts(build_leaderboard(records))
    return chart


def seeds_at(chart: Chart, size: int) -> list[float]:
    return sorted(point["y"] for point in points(chart, "seeds") if point["x"] == size)


def test_a_run_that_still_improved_is_hollow_and_the_picture_says_so() -> None:
    done, open_ended = (
        trained(entry, accuracy, {}, num_pairs=n)
        for entry, accuracy, n in (("softmax", 0.9, 4), ("softmax", 0.4, 8))
    )
    open_ended = replace(open_ended, result=replace(open_ended.result, ended="maximum"))
    chart = only_chart([done, open_ended])
    assert [p["x"] for p in points(chart, "hollow")] == [8]
    assert any(note.startswith("Hollow") for note in chart.spec["title"]["subtitle"])


def test_seeds_give_each_point_an_interval_and_what_a_part_scores_is_a_line() -> None:
    records = [
        replace(
            r,
            cell=replace(r.cell, workload=replace(r.cell.task, seed=seed)),
            result=replace(r.result, plateaus={"one of the shown values": 1 / n}),
        )
        for n in (4, 8)
        for seed, accuracy in ((0, 0.5), (1, 0.6))
        for r in [trained("linear", accuracy, {}, num_pairs=n)]
    ]
    chart = only_chart(records)
    assert all(point["low"] < point["y"] < point["high"] for point in points(chart, "bars"))
    for size in (4, 8):
        assert seeds_at(chart, size) == pytest.approx([40.0, 50.0])
    plateau = points(chart, "guides")
    assert [(point["x"], point["y"]) for point in plateau] == [(4, 75.0), (8, 87.5)]


def test_seeds_at_a_longer_length_are_dots_of_their_own() -> None:
    records = [
        replace(r, cell=replace(r.cell, workload=replace(r.cell.task, seed=seed)))
        for seed, score in enumerate((1.0, 0.9))
        for r in [trained("softmax", score, {"128": score / 2}, seq_len=64)]
    ]
    chart = only_chart(records)
    assert seeds_at(chart, 64) == pytest.approx([0.0, 10.0])
    assert seeds_at(chart, 128) == pytest.approx([50.0, 55.0])
    assert points(chart)[1]["y"] == pytest.approx(52.5)
