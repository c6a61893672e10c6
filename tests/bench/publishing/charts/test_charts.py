from __future__ import annotations

from tests import records as made
from tests.bench.publishing.charts.boards import drawn


def test_speed_latency_and_memory_are_drawn_for_each_setting_and_accuracy_for_each_task() -> None:
    assert [chart.name for chart in drawn(made.sweep_records())] == [
        f"{what}-cpu-1-thread-{dtype}-{mode}-core-1x4x64"
        for dtype in ("float32", "bfloat16")
        for mode in ("forward", "forward-backward")
        for what in ("speedup", "latency", "peak-memory")
    ] + ["accuracy-digits-cpu-1-thread", "accuracy-recall-cpu-1-thread"]


def test_nothing_is_drawn_of_a_single_length_of_failures_or_of_nothing() -> None:
    assert drawn(made.block_records()) == ()
    assert drawn(made.one_of_each_failure()) == ()
    assert drawn([]) == ()
    assert drawn(made.task_records()) == ()
