import json
from dataclasses import asdict, replace

import pytest

from bench.core.record import Status
from bench.measuring.worker.outcome import Outcome, first_line
from bench.measuring.worker.results import (
    PairedRoundsResult,
    RoundsResult,
    TrainResult,
)
from tests.bench.measuring.worker.fakes import found

WENT_WELL = Outcome(
    status=Status.OK,
    result=found(measured_s=1.5),
)


def over_the_socket(outcome, kind=RoundsResult):
    return Outcome.from_message(json.loads(json.dumps(outcome.to_message())), kind, wall_s=2.0)


def test_an_outcome_is_the_same_on_both_sides_of_the_socket():
    assert over_the_socket(WENT_WELL) == replace(WENT_WELL, wall_s=2.0)
    failed = Outcome(status=Status.CRASHED, reason="why", detail="a traceback")
    there = over_the_socket(failed)
    assert there == replace(failed, wall_s=2.0)
    assert (there.is_ok, there.measured_s, WENT_WELL.measured_s) == (False, 0.0, 1.5)


FORGED = {
    "a field too few": {"result": {"measured_s": 1.0}},
    "a field too many": {"result": WENT_WELL.to_message()["result"] | {"x": 1}},
    "a negative time": {"result": WENT_WELL.to_message()["result"] | {"measured_s": -1.0}},
    "a word for a number": {"result": WENT_WELL.to_message()["result"] | {"outside_s": "x"}},
    "no result": {"result": None},
    "a reason": {"reason": "why"},
    "a result without success": {"status": "error", "reason": "why"},
    "no reason": {"status": "error", "result": None},
    "another status": {"status": "well"},
}


@pytest.mark.parametrize("changes", FORGED.values(), ids=FORGED.keys())
def test_a_message_of_another_shape_is_a_crash(changes):
    came = Outcome.from_message(WENT_WELL.to_message() | changes, RoundsResult, wall_s=3.0)
    assert (came.status, came.wall_s) == (Status.CRASHED, 3.0)
    assert came.reason.startswith("invalid message from the worker: ")


def test_a_result_of_another_kind_is_a_crash():
    assert "not a PairedRoundsResult" in over_the_socket(WENT_WELL, PairedRoundsResult).reason


def test_a_quality_that_no_record_could_hold_is_a_crash():
    numbers = {"accuracy": 0.5, "chance": 0.1, "num_examples": 10, "num_parameters": 1}
    whole = asdict(TrainResult(**numbers, guess="", losses=(1.0, 0.5), measured_s=1.0))

    def came(**changes):
        message = WENT_WELL.to_message() | {"result": whole | changes}
        return Outcome.from_message(json.loads(json.dumps(message)), TrainResult, wall_s=0.0)

    assert came().found.observed()["losses"] == (1.0, 0.5)
    for wrong in ({"accuracy": 2.0}, {"losses": "abc"}, {"acuracy": 1.0}, {"plateaus": [1]}):
        assert came(**wrong).status is Status.CRASHED


def test_a_reason_is_one_line_of_bearable_length():
    assert first_line(ValueError("\n  one\ntwo")) == "one"
    assert len(first_line(ValueError("x" * 1000))) == 300
    assert first_line(KeyError()) == "KeyError"
