import numpy as np
import pytest

from bench.core.comparison import Runs, compare
from bench.studies.reproduce.looks import AHEAD, BEHIND, NOT_DECIDED, OPEN, USUAL, Looks

NUM_STUDIES = 2000


def study(differences, looks):
    """How a study ends that is looked at as planned, and after how many seeds."""
    for number in looks.numbers:
        one, other = (dict(enumerate(row)) for row in (differences[:number], np.zeros(number)))
        said = looks.decide(compare(Runs(scores=one), Runs(scores=other)))
        if said != OPEN:
            return said, number
    raise AssertionError("the last look left the study open")


def test_what_the_looks_spend_adds_up_to_the_level_in_step_with_the_seeds():
    looks = Looks(numbers=(3, 4, 6, 8, 12))
    assert looks.numbers == USUAL
    assert looks.spent == pytest.approx((0.0125, 0.05 / 12, 0.1 / 12, 0.1 / 12, 0.2 / 12))
    for numbers in ((2,), (5, 50), tuple(range(2, 40))):
        assert sum(Looks(numbers=numbers).spent) == pytest.approx(0.05)


@pytest.mark.parametrize("two_modes", [False, True])
def test_of_studies_without_a_difference_at_most_6_in_100_decide_wrongly(two_modes):
    draw = np.random.default_rng(1)
    rows = draw.normal(0.8, 0.05, size=(2, NUM_STUDIES, USUAL[-1]))
    if two_modes:
        rows = rows - 0.5 * (draw.random(rows.shape) < 0.5)
    ends = [study(own, Looks())[0] for own in rows[0] - rows[1]]
    assert (ends.count(AHEAD) + ends.count(BEHIND)) / NUM_STUDIES <= 0.06
    assert ends.count(NOT_DECIDED) >= 0.94 * NUM_STUDIES


def _rows(differences):
    return (
        Runs(scores=dict(enumerate(differences))),
        Runs(scores=dict.fromkeys(range(len(differences)), 0.0)),
    )


def test_a_large_difference_stops_early_on_its_own_side():
    draw = np.random.default_rng(2)
    found = [study(own, Looks()) for own in draw.normal(0.3, 0.05, size=(300, USUAL[-1]))]
    assert all(said == AHEAD for said, _ in found)
    assert np.mean([number for _, number in found]) < 5
    assert study(np.full(12, -0.3) + 0.001 * np.arange(12), Looks())[0] == BEHIND


def test_between_looks_nothing_is_decided_and_beyond_the_last_nothing_was_planned():
    looks = Looks()
    certain = compare(*_rows(np.full(5, 0.3) + 0.001 * np.arange(5)))
    assert looks.decide(certain) == OPEN  # no look at five seeds
    assert looks.decide(None) == OPEN
    assert looks.decide(compare(*_rows(np.zeros(11)))) == OPEN
    assert looks.decide(compare(*_rows(np.zeros(12)))) == NOT_DECIDED
    with pytest.raises(ValueError, match="13 seeds were run; at most 12"):
        looks.decide(compare(*_rows(np.arange(13.0))))


@pytest.mark.parametrize("numbers", [(), (1, 3), (3, 3), (4, 3)])
def test_looks_that_are_no_plan_are_refused(numbers):
    with pytest.raises(ValueError, match="rising numbers"):
        Looks(numbers=numbers)
