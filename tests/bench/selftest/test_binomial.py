import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.selftest.binomial import at_most, exact_interval


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [
        # Closed forms at the ends: 1 - (tail) ** (1 / n), and its mirror.
        (0, 300, 0.0, 1 - 0.025 ** (1 / 300)),
        (300, 300, 0.025 ** (1 / 300), 1.0),
        (0, 1, 0.0, 0.975),
        # As printed in tables of the interval.
        (1, 10, 0.00253, 0.44502),
        (5, 10, 0.18709, 0.81291),
        (95, 100, 0.88717, 0.98357),
    ],
)
def test_the_interval_is_the_exact_one(successes, trials, low, high):
    assert exact_interval(successes, trials) == pytest.approx((low, high), abs=2e-5)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_under_an_end_of_the_interval_the_outcome_has_half_of_what_is_left_out(data):
    trials = data.draw(st.integers(1, 400))
    successes = data.draw(st.integers(0, trials))
    low, high = exact_interval(successes, trials)
    assert 0 <= low <= successes / trials <= high <= 1
    if successes < trials:
        assert at_most(successes, trials, high) == pytest.approx(0.025, rel=1e-6)
    if successes > 0:
        assert 1 - at_most(successes - 1, trials, low) == pytest.approx(0.025, rel=1e-6)
    mirrored = exact_interval(trials - successes, trials)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=1e-9)


def test_chances_are_those_of_counting():
    assert at_most(1, 3, 0.5) == pytest.approx(4 / 8)
    by_hand = sum(math.comb(20, k) * 0.1**k * 0.9 ** (20 - k) for k in range(4))
    assert at_most(3, 20, 0.1) == pytest.approx(by_hand)
    assert at_most(3, 20, 0.0) == 1.0 and at_most(3, 20, 1.0) == 0.0 and at_most(20, 20, 1.0) == 1.0


def test_no_alarm_of_370_shows_less_than_one_in_a_hundred_and_one_alarm_does_not() -> None:
    assert exact_interval(0, 370)[1] == pytest.approx(0.0099, abs=5e-5)
    assert exact_interval(0, 360)[1] > 0.01
    assert exact_interval(1, 370)[1] > 0.01
    assert exact_interval(75, 75)[0] > 0.95 > exact_interval(71, 71)[0]


@pytest.mark.parametrize(("successes", "trials"), [(-1, 3), (4, 3), (0, 0)])
def test_impossible_counts_are_refused(successes, trials):
    with pytest.raises(ValueError, match="trials"):
        exact_interval(successes, trials)
