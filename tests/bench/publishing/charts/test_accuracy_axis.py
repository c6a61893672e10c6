from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.publishing.charts.accuracy_axis import accuracy_axis


@given(st.lists(st.floats(0, 100), min_size=1, max_size=20))
def test_every_accuracy_lies_within_the_picture_and_more_is_higher(accuracies: list[float]) -> None:
    axis = accuracy_axis(accuracies, 340)
    places = [axis.place(one) for one in sorted(accuracies)]
    assert all(0 <= place <= 340 for place in places)
    assert all(after <= before for before, after in itertools.pairwise(places))
    for one in accuracies:
        assert axis.at(axis.place(one)) == pytest.approx(one, abs=1e-6)


def test_digits_at_94_to_100_are_not_one_row() -> None:
    axis = accuracy_axis([3.1, 94.0, 97.0, 99.0, 99.5, 100.0], 340)
    places = [axis.place(one) for one in (94.0, 97.0, 99.0, 99.5, 100.0)]
    assert all(before - after > 20 for before, after in itertools.pairwise(places))


@given(st.floats(0, 99), st.floats(0.1, 100))
def test_ticks_leave_room_for_their_words(low: float, span: float) -> None:
    axis = accuracy_axis([low, min(100.0, low + span)], 340)
    places = [axis.place(tick) for tick in axis.ticks]
    assert all(after - before >= 20 for before, after in itertools.pairwise(places))


def test_the_axis_says_accuracies_where_it_holds_errors() -> None:
    channel = accuracy_axis([0.0, 100.0], 340).channel("error", "Accuracy (%)")
    assert {0.0, 100.0, 1.0} <= set(channel["axis"]["values"])
    assert channel["axis"]["labelExpr"] == "format(100 - datum.value, '~r')"


def test_an_interval_ends_where_the_picture_does() -> None:
    axis = accuracy_axis([90.0, 99.0], 340)
    point = axis.within({"error": 3.0, "error_low": -5.0, "error_high": 40.0})
    assert axis.place(100 - point["error_low"]) == pytest.approx(0)
    assert axis.place(100 - point["error_high"]) == pytest.approx(340)
    assert axis.within({"error": 3.0}) == {"error": 3.0}
