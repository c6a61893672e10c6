"""Accuracy against the length of test examples."""

import pytest

from bench.publishing.charts import charts
from bench.publishing.leaderboard import build_leaderboard
from tests import records as made
from tests.bench.publishing.charts.boards import points


def trained(entry, accuracy, longer, **settings):
    (record,) = made.task_records([entry], seeds=[0])
    record = made.with_work(record, settings=settings)
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


def test_two_pictures_of_one_name_are_two_files():
    records = [
        trained("softmax", 1.0, {"128": 0.5}, seq_len=64, batch_size=size) for size in (8, 16)
    ]
    two = [("softmax", 64, 100.0), ("softmax", 128, 50.0)]
    assert drawn(records) == {
        "extrapolation-recall-cpu-1-thread": two,
        "extrapolation-recall-cpu-1-thread-2": two,
    }
