import pytest

from bench.measure.stopping import Stopping
from bench.worker.rounds import half_widths

STOPPING = Stopping(min_rounds=7)


def test_intervals_are_looked_at_only_when_they_are_due():
    taken = [[1.0, 2.0]] * 6
    assert half_widths(taken, [0, 0], STOPPING) is None
    assert half_widths([*taken, [1.0, 2.0]], [0, 0], STOPPING) is not None
    assert half_widths([*taken, *taken[:2]], [0, 0], STOPPING) is None, "every fourth round"


def test_without_a_reference_there_is_no_ratio_to_look_at():
    assert half_widths([[1.0, 2.0]] * 7, None, STOPPING) is None
    assert half_widths([[1.0, 2.0]] * 7, [None, None], STOPPING) is None


def test_a_constant_ratio_is_known_and_a_wandering_one_is_not():
    steady = [[float(n), 3.0 * n] for n in range(1, 8)]
    assert half_widths(steady, [0, 0], STOPPING) == pytest.approx([0.0, 0.0])
    wandering = [[1.0, float(n)] for n in range(1, 8)]
    widths = half_widths(wandering, [0, 0], STOPPING)
    assert widths[0] == pytest.approx(0.0) and widths[1] > 0.1


def test_each_member_is_held_against_the_reference_of_its_own():
    taken = [[1.0, float(n), 2.0 * n] for n in range(1, 8)]
    widths = half_widths(taken, [None, None, 1], STOPPING)
    assert widths == pytest.approx([0.0])
