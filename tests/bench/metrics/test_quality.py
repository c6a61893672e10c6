from __future__ import annotations

from dataclasses import replace

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
        collapsed=False,
    )
    record = made.ok_record(made.task_cell(), quality)
    in_bits = made.ok_record(made.task_cell(), replace(quality, unit="bits per byte"))
    assert evaluate(in_bits, ["accuracy", "bits_per_byte"]) == {
        "accuracy": None,
        "bits_per_byte": 0.75,
    }
    expected = {"accuracy": 0.75, "chance": 0.1, "num_examples": 540, "train_s": 3.5}
    expected["collapsed"] = False
    assert evaluate(record, expected) == expected
