from __future__ import annotations

from bench.publishing.sinks.curves import training_curves
from tests import records as made


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
