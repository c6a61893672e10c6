from __future__ import annotations

from bench.metrics import evaluate
from bench.record import Quality
from tests import records as made


def test_parameters_are_those_of_what_was_timed_or_trained() -> None:
    quality = Quality(accuracy=1.0, chance=0.1, guess="any", num_examples=9, num_parameters=5)
    trained = made.ok_record(made.task_cell(), quality)
    timed = made.ok_record(made.kernel_cell(), made.speed([1.0], num_parameters=0))
    assert evaluate(trained, ["num_parameters"]) == {"num_parameters": 5}
    assert evaluate(timed, ["num_parameters"]) == {"num_parameters": 0}
