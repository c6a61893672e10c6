"""Token filters in tables: beside the whole model, with oracles named and reasons said."""

from dataclasses import replace
from typing import Any

import pytest

from bench.core.record import Quality, Record
from bench.publishing.filters import filter_columns, kept_shares
from bench.publishing.leaderboard import build_leaderboard
from bench.publishing.task_tables import task_sections
from tests import records as made


def row(name, accuracy, **changes):
    made_up: Any = {
        "filter": name,
        "keep": 0.5,
        "num_tokens": 19,
        "accuracy": accuracy,
        "flops": 300,
        "latency_s": [1.0] * 15,
        "unfiltered_latency_s": [2.0] * 15,
    }
    return made_up | changes


def with_filters(*rows):
    (record,) = made.task_records(["softmax"], seeds=[0])
    assert isinstance(record.result, Quality)
    result = replace(record.result, accuracy=0.9, flops=1000, filtered=rows)
    return [replace(record, result=result)]


@pytest.mark.parametrize("change", [{"keep": 1.5}, {"latency_s": [-1.0]}, {"num_tokens": 0}])
def test_a_filter_that_cannot_be_is_no_record(change):
    (record,) = with_filters(row("random", 0.5, **change))
    with pytest.raises(ValueError, match="is"):
        Record.from_json(record.to_json())


def test_what_a_filter_costs_is_taken_seed_by_seed():
    records = [
        replace(r, cell=replace(r.cell, workload=replace(r.cell.task, seed=seed)))
        for seed, accuracy in ((0, 0.5), (1, 0.6))
        for r in with_filters(row("random", accuracy))
    ]
    (section,) = task_sections(build_leaderboard(records, ("none",)))
    (table,) = [table for table in section.tables if "token filters" in table.title]
    # -40 and -30: Student's t of one degree of freedom, 12.7, times a standard error of 5.
    assert table.texts()[1][4:6] == ("55.0 [0.0, 100.0]", "-35.0 [-98.5, +28.5]")


def test_speed_ups_and_flops_of_a_filter_are_over_the_whole_model():
    slower = row("random", 0.5, latency_s=[1.0, 1.0, 4.0], unfiltered_latency_s=[2.0, 3.0, 2.0])
    (record,) = with_filters(slower, row("norm", 0.4, reason="norm needs keys"))
    assert filter_columns(record) == {
        "random_0.5_num_tokens": 19,
        "random_0.5_accuracy": 0.5,
        "random_0.5_latency_s": 1.0,
        "random_0.5_speedup_over_whole": 2.0,  # of 2, 3 and 1/2, within rounds
        "random_0.5_flops": 300,
        "random_0.5_flops_over_whole": 0.3,
    }
    whole, kept = kept_shares("softmax", [record])
    assert (whole.filter, whole.latency_s, whole.flops, whole.latency_ratio) == (
        *("whole model", 2.0, 1000, 1.0),
    )
    assert (kept.filter, kept.latency_s, kept.ratios) == ("random", 1.0, (2.0, 3.0, 0.5))
    assert (kept.latency_ratio, kept.flops_ratio) == (0.5, 0.3)
    assert kept.minus_whole == pytest.approx((-0.4,))
