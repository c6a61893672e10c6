from dataclasses import replace
from datetime import datetime
from pathlib import Path

from bench.core.record import Status
from bench.publishing.sinks.view import run_id, view_of
from tests import records as made
from tests.bench.publishing.sweeps import config, small_sweep


def test_a_run_id_is_the_sweeps_with_what_is_not_allowed_in_one_replaced():
    assert run_id("20310506-abc/1") == "20310506-abc-1"
    assert run_id("") == "sweep"
    groups = [
        view_of(small_sweep("a/1"), "a/1", config(Path(), group=group)).group
        for group in (None, "mine")
    ]
    assert groups == ["a", "mine"]


def in_bfloat16(record, accuracy):
    cell = replace(record.cell, workload=replace(record.cell.task, dtype="bfloat16"))
    return made.changed(replace(record, cell=cell), accuracy=accuracy)


def test_scores_of_two_dtypes_are_two_numbers():
    (record,) = made.task_records(["nala"], seeds=[0])
    both = [made.changed(record, accuracy=0.9), in_bfloat16(record, 0.7)]
    assert view_of(both, made.SWEEP, config(Path())).scores == {
        "accuracy/recall dtype=bfloat16/nala": 0.7,
        "accuracy/recall dtype=float32/nala": 0.9,
    }


def test_a_summary_counts_statuses_from_the_first_start_and_keeps_history_out_of_the_scores():
    timed = made.block_records(("softmax", "nala"), seq_len=256)
    lost = [
        made.failed_record(made.task_cell("gla", seed=seed), Status.DIVERGED, "nan")
        for seed in (0, 1)
    ]
    late = [replace(record, started_at="2031-05-06T09:00:00+00:00") for record in lost]
    trained = made.task_records(["nala"], seeds=[0, 1, 2])
    records = [*timed, *trained, *late]
    view = view_of(records, made.SWEEP, config(Path()))
    assert (view.summary["num_ok"], view.summary["num_diverged"]) == (5, 2)
    first = min(record.started_at for record in records)
    assert view.summary["measured_at"] == datetime.fromisoformat(first).timestamp()
    assert list(view.scores) == ["accuracy/recall/nala"]
    rows = view.tables["leaderboard"]
    seeds = {row["name"]: row["num_seeds"] for row in rows if row["task"]}
    assert seeds == {"nala": 3, "gla": None}
