from __future__ import annotations

from pathlib import Path

from bench.core.record import Status
from bench.publishing.sinks.view import run_config, run_id, view_of
from tests import records as made
from tests.bench.publishing.sweeps import config, small_sweep


def test_the_config_names_axes_that_only_some_cells_set() -> None:
    searched = made.task_cell("nala")
    cells = [
        made.task_cell(shared_rate=None),
        searched,
        made.kernel_cell(num_kv_heads=2, num_heads=4),
        made.kernel_cell(),
    ]
    records = [made.failed_record(cell, Status.SKIPPED, "no") for cell in cells]
    axes = run_config(records, made.SWEEP)["axes"]
    assert axes["shared_rate"] == [None, 0.006]
    assert axes["num_kv_heads"] == [None, 2]


def test_a_run_id_is_the_sweeps_with_what_is_not_allowed_in_one_replaced() -> None:
    assert run_id("20310506-abc/1") == "20310506-abc-1"
    assert run_id("") == "sweep"


def test_runs_of_several_commits_can_be_put_in_order(tmp_path: Path) -> None:
    view = view_of(small_sweep(), made.SWEEP, config(tmp_path))
    assert view.summary["measured_at"] == 1935817689.0
    assert view.summary["history/float32 forward 1024/nala"] > 1
    assert view.config["environment"]["commit"] == "0" * 40
