from dataclasses import replace
from datetime import datetime
from pathlib import Path

from bench.core.record import Status
from bench.publishing.charts import charts
from bench.publishing.leaderboard import build_leaderboard
from bench.publishing.sinks.view import (
    curves,
    history,
    named_tasks,
    run_id,
    training_curves,
    view_of,
)
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


CURVE = {"num_steps": 30, "validation_steps": (15, 30), "validation": (0.5, 0.9)}


def trained(**settings):
    (record,) = made.task_records(["nala"], seeds=[0])
    cell = made.task_cell("nala", settings={"num_steps": 30} | settings)
    return made.changed(replace(record, cell=cell), losses=(), **CURVE)


def test_trainings_of_one_label_have_a_curve_each():
    rates = [trained(learning_rate=rate) for rate in (0.01, 0.03)]
    wide = replace(rates[0].cell, workload=replace(rates[0].cell.task, dtype="bfloat16"))
    records = [*rates, trained(learning_rate=0.01, num_pairs=8), replace(rates[0], cell=wide)]
    board = build_leaderboard(records)
    names = {
        name.removeprefix("train/validation/") for _, own in training_curves(board) for name in own
    }
    assert names == {
        "recall dtype=bfloat16 num_pairs=None/nala/0",
        "recall dtype=float32 num_pairs=None/nala at 0.01/0",
        "recall dtype=float32 num_pairs=None/nala at 0.03/0",
        "recall dtype=float32 num_pairs=8/nala/0",
    }
    assert len({name for name, _ in named_tasks(board)}) == len(board.tasks) == 3


def test_history_is_that_of_the_longest_length_and_settings_are_told_apart() -> None:
    records = [r for n in (256, 4096) for r in made.block_records(("nala",), seq_len=n)]
    there = [replace(r, environment=r.environment | {"processor": "Other"}) for r in records[:1]]
    wide = made.block_records(("nala",), seq_len=256, batch_size=8)
    assert set(history(build_leaderboard([*records, *there, *wide]))) == {
        "history/float32 forward batch_size=1 machine=1 4096/nala",
        "history/float32 forward batch_size=1 machine=2 256/nala",
        "history/float32 forward batch_size=8 machine=1 256/nala",
    }


def test_a_users_own_factory_makes_names_that_files_and_curves_can_have():
    own = "my/own.py:build"
    records = [r for size in (32, 64) for r in made.model_records(model=own, image_size=size)]
    assert all(
        "/" not in chart.name and ":" not in chart.name
        for chart in charts(build_leaderboard(records))
    )
    several = build_leaderboard([*records, *made.model_records(image_size=32)])
    names = {name for _, scalars in curves(several, ["flops"], "image_size") for name in scalars}
    assert "model/flops/float32 forward model=my-own.py-build/nala" in names
