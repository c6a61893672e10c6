from dataclasses import replace
from typing import Any

from bench.core.record import Quality, Speed
from bench.publishing.metrics import evaluate, observed
from tests import records as made

QUALITY = Quality(
    accuracy=0.75,
    chance=0.1,
    guess="one of ten",
    num_examples=540,
    num_parameters=9,
    train_s=3.5,
    num_steps=40,
    collapsed=False,
    state_bytes=7,
)
NAMES = [*(observed.OF_KIND[Quality] | observed.OF_KIND[Speed])]


def test_each_is_a_field_of_one_kind_of_result_and_has_its_value():
    of_speed, of_quality = [*observed.OF_KIND[Speed]], [*observed.OF_KIND[Quality]]
    assert {*of_speed} & {*of_quality} == {"kept_share", "num_parameters", "state_bytes"}
    seen: dict[str, Any] = {name: i for i, name in enumerate(of_speed)} | {"is_noisy": True}
    timed = made.ok_record(made.kernel_cell(), made.speed([1.0], **seen))
    assert evaluate(timed, NAMES) == dict.fromkeys(NAMES) | seen
    trained = evaluate(made.ok_record(made.task_cell(), QUALITY), NAMES)
    assert trained == dict.fromkeys(NAMES) | {name: getattr(QUALITY, name) for name in of_quality}


def test_a_load_that_was_not_observed_is_none():
    quiet, loud = made.speed([1.0]), made.speed([1.0], load={"foreign_cores": 0.75})
    names = ["foreign_cores"]
    assert evaluate(made.ok_record(made.kernel_cell(), quiet), names) == {"foreign_cores": None}
    assert evaluate(made.ok_record(made.kernel_cell(), loud), names) == {"foreign_cores": 0.75}


def test_a_score_in_bits_is_no_accuracy():
    names = ["accuracy", "bits_per_byte"]
    in_bits = made.ok_record(made.task_cell(), replace(QUALITY, unit="bits per byte"))
    assert evaluate(in_bits, names) == {"accuracy": None, "bits_per_byte": 0.75}
    shares = made.ok_record(made.task_cell(), QUALITY)
    assert evaluate(shares, names) == {"accuracy": 0.75, "bits_per_byte": None}
