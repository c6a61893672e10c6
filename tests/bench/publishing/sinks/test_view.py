from dataclasses import replace
from pathlib import Path

from bench.publishing.sinks.view import run_id, view_of
from tests import records as made
from tests.bench.publishing.sweeps import config


def test_a_run_id_is_the_sweeps_with_what_is_not_allowed_in_one_replaced():
    assert run_id("20310506-abc/1") == "20310506-abc-1"
    assert run_id("") == "sweep"


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
