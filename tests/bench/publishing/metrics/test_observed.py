import json
from dataclasses import replace
from typing import Any

from bench.core.observed import CallFacts
from bench.core.record import Quality, Record, Speed, Status
from bench.measuring.worker.block import Rounds
from bench.measuring.worker.outcome import Outcome
from bench.measuring.worker.results import TrialResult
from bench.publishing.metrics import evaluate, observed
from tests import records as made
from tests.bench.measuring.worker.fakes import found

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


def test_what_a_worker_observes_needs_no_other_code_to_become_a_metric_of_the_stored_record():
    names = [*observed.meanings(CallFacts)]
    values = {name: 1 / n if name == "kept_share" else n for n, name in enumerate(names, 1)}
    result = TrialResult(**values, measured_s=1.0)
    message = json.loads(json.dumps(Outcome(status=Status.OK, result=result).to_message()))
    trial = Outcome.from_message(message, TrialResult, wall_s=1.0).found
    outcome = Outcome(status=Status.OK, result=found())
    rounds = Rounds(samples=[[1.0]], processes=[0], references=[None], outcome=outcome)
    line = made.ok_record(made.kernel_cell(), rounds.speed(0, trial, seed=0)).to_json()
    assert evaluate(Record.from_json(line), names) == values


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
