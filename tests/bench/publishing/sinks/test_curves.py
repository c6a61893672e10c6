from __future__ import annotations

from bench.publishing.leaderboard import build_leaderboard
from bench.publishing.sinks.curves import curves, history, training_curves
from tests import records as made


def test_curves_skip_lengths_without_numbers_and_name_what_differs() -> None:
    records = made.block_records(["nala"]) + made.block_records(["nala"], batch_size=8)
    records += made.one_of_each_failure()
    board = build_leaderboard(records)
    found = dict(curves(board, ["latency_s"]))
    assert list(found) == [256]
    assert any("batch_size=8" in name for name in found[256])
    assert all(name.startswith("latency_s/float32 forward ") for name in found[256])


def test_losses_and_validation_scores_are_curves_along_the_steps_of_training() -> None:
    (record,) = made.task_records(["nala"], seeds=[3])
    curve = {"num_steps": 30, "validation_steps": (15, 30), "validation": (0.5, 0.9)}
    told = made.changed(record, losses=(3.0, 2.0, 1.0), **curve)
    assert list(training_curves([told, record])) == [  # the second has no curve
        (10, {"train/loss/recall/nala/3": 3.0}),
        (15, {"train/validation/recall/nala/3": 0.5}),
        (20, {"train/loss/recall/nala/3": 2.0}),
        (30, {"train/validation/recall/nala/3": 0.9, "train/loss/recall/nala/3": 1.0}),
    ]


def test_history_has_the_speed_up_at_the_longest_length_of_each_setting() -> None:
    records = [r for n in (256, 1024) for r in made.block_records(["softmax", "nala"], seq_len=n)]
    found = history(build_leaderboard(records))
    assert set(found) == {f"history/float32 forward 1024/{entry}" for entry in ("softmax", "nala")}
    assert found["history/float32 forward 1024/softmax"] == 1.0
