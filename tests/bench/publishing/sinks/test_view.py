from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from bench.core.record import Record
from bench.publishing.sinks.view import run_id, view_of
from tests import records as made
from tests.bench.publishing.sweeps import METRICS, config


def test_a_run_id_is_the_sweeps_with_what_is_not_allowed_in_one_replaced() -> None:
    assert run_id("20310506-abc/1") == "20310506-abc-1"
    assert run_id("") == "sweep"


def test_bits_per_byte_are_no_accuracy() -> None:
    (record,) = made.task_records(["nala"], seeds=[0])
    told = made.changed(record, accuracy=1.9, unit="bits per byte")
    view = view_of([told], made.SWEEP, config(Path()).but(metrics=(*METRICS, "bits_per_byte")))
    assert view.scores == {"bits_per_byte/recall/nala": 1.9}
    table = view.tables["leaderboard"]
    [row] = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    assert (row["accuracy"], row["bits_per_byte"]) == (None, 1.9)


def in_bfloat16(record: Record, accuracy: float) -> Record:
    cell = replace(record.cell, workload=replace(record.cell.task, dtype="bfloat16"))
    return made.changed(replace(record, cell=cell), accuracy=accuracy)


def test_scores_of_two_dtypes_are_two_numbers() -> None:
    (record,) = made.task_records(["nala"], seeds=[0])
    both = [made.changed(record, accuracy=0.9), in_bfloat16(record, 0.7)]
    assert view_of(both, made.SWEEP, config(Path())).scores == {
        "accuracy/recall dtype=bfloat16/nala": 0.7,
        "accuracy/recall dtype=float32/nala": 0.9,
    }
