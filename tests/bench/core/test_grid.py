"""Which rate is best: by score, then by speed; and when a grid has to be widened."""

import pytest

from bench.core.grid import Trained, best_of, next_rate


def best(scores, better="higher", steps=None):
    """(rate, beyond) for rates 1, 2, 3, ..."""
    runs = {
        float(rate): Trained(score=score, steps_to_90=(steps or {}).get(rate))
        for rate, score in enumerate(scores, 1)
    }
    found = best_of(runs, better=better)
    return found.rate, found.beyond


def test_the_best_score_wins_and_a_run_without_one_does_not():
    assert best([0.2, 0.9, 0.8, None]) == (2, None)
    assert best([None, None, None]) == (None, None)
    assert best([3.0, 1.5, 1.2, 2.0], better="lower") == (3, None)


def test_of_scores_alike_the_one_that_learned_sooner_wins():
    assert best([0.1, 1.0, 1.0, 0.1], steps={2: 300, 3: 120}) == (3, None)


def test_a_best_rate_at_the_edge_asks_for_the_next_one():
    assert best([0.25, 0.25, 0.31, 0.82]) == (4, 10.0)
    assert best([0.9, 0.5, 0.3, 0.2]) == (1, 0.3)
    assert best([None, 0.2, 0.9]) == (3, 10.0)
    assert best([0.2, 0.3, 0.32]) == (3, 10.0), "better by 0.02"
    assert best([0.2, 0.9]) == (2, None), "of two rates both lie at an edge"


def test_where_rates_are_as_good_as_each_other_there_is_no_edge_to_go_beyond():
    assert best([0.031, 0.03, 0.033, 0.035]) == (3, None)
    assert best([1.0, 0.995, 0.2, 0.2], steps={1: 400, 2: 100}) == (2, None)


@pytest.mark.parametrize(
    ("rate", "up", "expected"),
    [
        *((3e-2, True, 0.1), (1e-3, False, 3e-4), (4.64e-4, True, 1e-3), (1e-4, False, 3e-5)),
        *((6e-4, True, 3e-3), (5e-4, True, 1e-3), (2e-4, False, 1e-4), (9e-9, False, 3e-9)),
        *((1e-9, False, 3e-10), (2e4, True, 1e5)),  # no ladder ends
    ],
)
def test_a_grid_is_widened_by_the_next_of_1_3_10(rate, up, expected):
    assert next_rate(rate, up=up) == expected
