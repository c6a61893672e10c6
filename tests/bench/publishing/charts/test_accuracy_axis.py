import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.publishing.charts.accuracy_axis import accuracy_axis, scored, seeds


@given(st.lists(st.floats(0, 100), min_size=1, max_size=20))
def test_every_accuracy_lies_within_the_picture_and_more_is_higher(accuracies):
    axis = accuracy_axis(accuracies, 340)
    errors = [100 - one for one in sorted(accuracies)]
    places = [axis.pixel(error) for error in errors]
    assert all(0 <= place <= 340 for place in places)
    assert all(after <= before for before, after in itertools.pairwise(places))
    for error in errors:
        assert axis.value(axis.pixel(error)) == pytest.approx(error, abs=1e-6)


def test_digits_at_94_to_100_are_not_one_row():
    axis = accuracy_axis([3.1, 94.0, 97.0, 99.0, 99.5, 100.0], 340)
    places = [axis.pixel(error) for error in (6.0, 3.0, 1.0, 0.5, 0.0)]
    assert all(before - after > 20 for before, after in itertools.pairwise(places))


@given(st.floats(0, 99), st.floats(0.1, 100))
def test_ticks_leave_room_for_their_words(low, span):
    axis = accuracy_axis([low, min(100.0, low + span)], 340)
    places = [axis.pixel(tick) for tick in axis.ticks or ()]
    assert all(after - before >= 20 for before, after in itertools.pairwise(places))


def test_the_axis_says_accuracies_where_it_holds_errors():
    holes = accuracy_axis([0.0, 100.0], 340, "Accuracy (%)").holes("y")
    assert {0.0, 100.0, 1.0} <= {*holes["y_ticks"]}
    assert holes["y_labels"] == "format(100 - datum.value, '~r')"


def test_an_interval_ends_where_the_picture_does():
    axis = accuracy_axis([90.0, 99.0], 340)
    point = scored(0.97, (0.6, 1.05), axis)
    assert axis.pixel(point["low"]) == pytest.approx(0)
    assert axis.pixel(point["high"]) == pytest.approx(340)
    assert scored(0.97, None, axis) == {"y": pytest.approx(3.0)}


def test_seeds_are_dots_where_there_are_several():
    assert seeds([0.5], {"x": 1}) == []
    assert seeds([0.5, 0.75], {"x": 1}) == [{"x": 1, "y": 50.0}, {"x": 1, "y": 25.0}]
