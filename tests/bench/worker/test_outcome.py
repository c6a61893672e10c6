import json
from dataclasses import fields, replace

import pytest
import torch

from bench.record import Speed, Status
from bench.worker.outcome import Outcome, first_line, is_out_of_memory
from bench.worker.results import RoundsResult, TrialResult, VersusResult
from tests.bench.worker.fakes import found

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


def test_a_result_with_a_field_too_few_or_too_many_is_refused():
    message = WENT_WELL.to_message()
    less = {k: v for k, v in message["result"].items() if k != "load"}
    for result, words in (
        (less, "missing .'load'"),
        (message["result"] | {"x": 1}, "unknown .'x'"),
    ):
        with pytest.raises(ValueError, match=words):
            Outcome.from_message(message | {"result": result}, RoundsResult, wall_s=0.0)
    with pytest.raises(ValueError, match="not a VersusResult"):
        over_the_socket(WENT_WELL, VersusResult)


def test_what_a_trial_observes_are_fields_of_records():
    names = {f.name for f in fields(TrialResult)} - {"measured_s"}
    assert names < {f.name for f in fields(Speed)}


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("[enforce fail] std::bad_alloc"), True),
        (RuntimeError("out of range"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_a_lack_of_memory_is_told_from_other_errors(error, expected):
    assert is_out_of_memory(error) is expected


def test_a_reason_is_one_line_of_bearable_length():
    assert first_line(ValueError("\n  one\ntwo")) == "one"
    assert len(first_line(ValueError("x" * 1000))) == 300
    assert first_line(KeyError()) == "KeyError"


def test_no_long_text_passes_the_socket():
    outcome = Outcome(status=Status.ERROR, reason="x" * 10**7, detail="y" * 10**7)
    assert len(json.dumps(outcome.to_message())) < 50_000
