"""What follows from a result alone: where a run is stuck, and what cannot be true together."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bench.core.observed import STUCK_WITHIN, Quality, unfit

CHANCE = 1 / 32
PLATEAUS = {"one of the shown values": 0.25, "the single pair": 0.96}


def quality(*validation: float, **changes: Any) -> Quality:
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
        (CHANCE + 0.9 * STUCK_WITHIN, "chance"),
        (CHANCE + 1.1 * STUCK_WITHIN, ""),
        (0.25, "one of the shown values"),
        (0.24, "one of the shown values"),
        (0.5, ""),
        (0.96, ""),
    ],
)
def test_a_run_is_stuck_where_its_last_validation_score_lies_at_a_level(
    last: float, words: str
) -> None:
    assert quality(0.7, last).stuck_at == words


def test_the_error_of_validation_widens_a_level_and_the_nearest_one_is_named() -> None:
    assert quality(0.3).stuck_at == ""
    assert quality(0.3, validation_error=0.06).stuck_at == "one of the shown values"
    assert quality(0.15, validation_error=0.2).stuck_at == "one of the shown values"
    assert quality(0.1, validation_error=0.2).stuck_at == "chance"


def test_a_score_with_a_unit_and_a_run_that_was_not_looked_at_are_stuck_nowhere() -> None:
    assert quality(CHANCE, unit="bits per byte").stuck_at == ""
    assert quality().stuck_at == ""


def test_answers_that_cannot_be_unpacked_are_in_no_record() -> None:
    assert unfit(quality(0.5)) is None
    for name in ("answers", "window_losses"):
        words = unfit(replace(quality(0.5), **{name: "AAAA"}))
        assert words is not None and words.startswith(f"{name} are no base64 of zlib")
