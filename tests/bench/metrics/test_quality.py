from __future__ import annotations

from bench.metrics import evaluate
from bench.record import Quality
from tests import records as made


def test_a_score_comes_with_what_guessing_gives_and_on_how_many_examples() -> None:
    quality = Quality(
        accuracy=0.75,
        chance=0.1,
        guess="one of ten",
        num_examples=540,
        num_parameters=9,
        train_s=3.5,
    )
    record = made.ok_record(made.task_cell(), quality)
    expected = {"accuracy": 0.75, "chance": 0.1, "num_examples": 540, "train_s": 3.5}
    assert evaluate(record, expected) == expected
