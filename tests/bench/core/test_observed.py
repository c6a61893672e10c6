"""Conclusions from a result alone: where a run is stuck, and values that exclude each other."""

from typing import Any

import pytest

from bench.core.facts import STUCK_WITHIN
from bench.core.observed import Quality, Speed, unfit

CHANCE = 1 / 32
PLATEAUS = {"one of the shown values": 0.25, "the single pair": 0.96}


def quality(*validation, **changes):
    values: dict[str, Any] = {
        "accuracy": 0.5,
        "chance": CHANCE,
        "guess": "any",
        "num_examples": 400,
        "num_parameters": 1,
        "validation": validation,
        "validation_steps": tuple(range(1, len(validation) + 1)),
        "plateaus": PLATEAUS,
    }
    return Quality(**(values | changes))


@pytest.mark.parametrize(
    ("last", "words"),
    [
        (CHANCE, "chance"),
        (0.0, "chance"),
        (0.2, "one of the shown values"),
        (0.25, "one of the shown values"),
        (0.25 + 0.75 * 0.9 * STUCK_WITHIN, "one of the shown values"),
        (0.25 + 0.75 * 1.1 * STUCK_WITHIN, ""),
        (0.96, ""),
    ],
)
def test_a_run_is_stuck_at_its_highest_level_or_below_and_near_the_nearest(last, words):
    assert quality(0.7, last).stuck_at == words


def test_the_error_of_validation_widens_a_level():
    assert quality(0.35).stuck_at == ""
    assert quality(0.35, validation_error=0.09).stuck_at == ""
    assert quality(0.35, validation_error=0.11).stuck_at == "one of the shown values"


def test_a_score_with_a_unit_and_a_run_that_was_not_looked_at_are_stuck_nowhere():
    assert quality(CHANCE, unit="bits per byte").stuck_at == ""
    assert quality().stuck_at == ""


def test_a_run_has_settled_unless_it_is_known_to_have_been_still_improving():
    ends = {"": True, "ceiling": True, "plateau": True, "maximum": False}
    assert {end: quality(ended=end).has_settled for end in ends} == ends


@pytest.mark.parametrize(
    ("accuracy", "changes", "has_failed"),
    [
        (0.63, {}, False),
        (0.62, {}, True),
        (0.55, {"plateaus": {}}, False),
        (0.51, {"plateaus": {}}, True),
        (0.01, {"unit": "bits per byte"}, False),
    ],
)
def test_a_run_fails_nearer_to_its_highest_level_than_to_all_or_stuck(
    accuracy, changes, has_failed
):
    assert quality(accuracy=accuracy, **changes).has_failed is has_failed
    assert quality(0.25, accuracy=0.7).has_failed
    assert [quality(accuracy=share).is_solved for share in (0.89, 0.9)] == [False, True]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"validation_steps": (1,)}, "validation has 2 scores at 1 steps"),
        ({"train_accuracy": 1.5}, "a share of right answers is 1.5"),
        ({"longer": {"64": 1.25}}, "a share of right answers is 1.25"),
        ({"plateaus": {"half": 1.75}}, "a share of right answers is 1.75"),
        (
            {"filtered": ({"filter": "f", "keep": 0.5, "accuracy": 2.0},)},
            "a share of right answers is 2.0",
        ),
    ],
)
def test_a_result_that_contradicts_itself_is_in_no_record(changes, words):
    assert (quality(0.5, 0.5, **changes).contradiction or "").startswith(words)
    assert quality(0.5, 1.5, unit="bits per byte").contradiction is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rounds": (0,)}, "latency_s has 2 samples and 1 rounds"),
        ({"processes": (0,)}, "latency_s has 2 samples of 1 processes"),
        ({"reference_rounds": (0, 1)}, "reference_latency_s has 1 samples and 2 rounds"),
    ],
)
def test_samples_without_a_round_or_a_process_are_in_no_record(changes, words):
    values: dict[str, Any] = {
        "latency_s": (0.1, 0.2),
        "rounds": (0, 1),
        "processes": (0, 0),
        "reference_latency_s": (0.3,),
        "reference_rounds": (0,),
    }
    assert unfit(Speed(**values)) is None
    assert Speed(**values).paired == ((0.1, 0.2), (0, 1), (0.3,), (0,), (0, 0))
    assert unfit(Speed(**(values | changes))) == words
