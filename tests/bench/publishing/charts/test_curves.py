"""Accuracy against pairs and against length: one chart for what differs in these alone."""

from dataclasses import replace

import pytest

from bench.publishing.charts import charts
from bench.publishing.leaderboard import build_leaderboard
from tests import records as made
from tests.bench.publishing.charts.boards import points


def trained(entry, accuracy, longer, **settings):
    words = f" num_pairs={settings['num_pairs']}" if "num_pairs" in settings else ""
    (record,) = made.task_records([entry], seeds=[0])
    record = made.with_work(record, label=f"recall{words}", settings=settings)
    return made.changed(record, accuracy=accuracy, longer=longer)


def drawn(records):
    """Points of each chart by its name."""
    board = build_leaderboard(records)
    return {
        chart.name: [
            (point["name"], point["x"], pytest.approx(100 - point["y"])) for point in points(chart)
        ]
        for chart in charts(board)
    }


def test_tasks_that_differ_in_pairs_alone_are_one_picture():
    records = [
        trained("softmax", 1.0, {}, num_pairs=4, seq_len=64),
        trained("softmax", 0.5, {}, num_pairs=8, seq_len=64),
        trained("softmax", 0.25, {}, num_pairs=16, seq_len=128),  # another length, too
    ]
    one = {"capacity-recall-cpu-1-thread": [("softmax", 4, 100.0), ("softmax", 8, 50.0)]}
    assert drawn(records) == one
    bits = [made.changed(record, unit="bits per byte") for record in records]
    assert drawn(bits) == {}
    (_, more, _) = records
    there = replace(more, cell=replace(more.cell, num_threads=2))
    assert drawn([records[0], there]) == {}, "of one place alone"
    yes = trained("softmax", 0.9, {}, num_pairs=True, seq_len=64)
    assert drawn([*records, yes]) == one, "true is no size"


def test_two_pictures_of_one_name_are_two_files():
    records = [
        trained("softmax", 1.0, {"128": 0.5}, seq_len=64, batch_size=size) for size in (8, 16)
    ]
    two = [("softmax", 64, 100.0), ("softmax", 128, 50.0)]
    assert drawn(records) == {
        "extrapolation-recall-cpu-1-thread": two,
        "extrapolation-recall-cpu-1-thread-2": two,
    }


def test_bits_at_longer_lengths_are_no_accuracies() -> None:
    records = [trained("softmax", 0.9, {"128": 0.5}, seq_len=64)]
    assert len(drawn(records)) == 1
    assert drawn([made.changed(r, unit="bits per byte") for r in records]) == {}


def test_a_run_that_still_improved_is_hollow() -> None:
    rising = made.changed(trained("softmax", 0.9, {"128": 0.5}, seq_len=64), ended="maximum")
    settled = trained("nala", 0.9, {"128": 0.5}, seq_len=64)
    (chart,) = charts(build_leaderboard([rising, settled]))
    assert {point["name"] for point in points(chart, "hollow")} == {"softmax"}
