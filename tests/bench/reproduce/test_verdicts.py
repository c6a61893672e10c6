from __future__ import annotations

import pytest

from bench.reproduce.verdicts import (
    Measured,
    Verdict,
    judge,
    score,
    share_interval,
)


def of(*scores: float, answers: int = 3000, by_steps: bool = False) -> Measured:
    return Measured(scores=scores, num_answers=answers, by_steps=by_steps)


def test_an_interval_within_the_tolerance_is_reproduced() -> None:
    found = judge(1.0, 0.02, of(0.996))
    assert found.verdict is Verdict.REPRODUCED
    assert "one seed, so over test examples only" in found.words
    assert found.low is not None and 0.99 < found.low < 0.996


def test_an_interval_outside_differs_by_the_distance_of_the_means() -> None:
    found = judge(0.85, 0.02, of(0.60, 0.61, 0.62))
    assert found.verdict is Verdict.DIFFERS
    assert found.words.startswith("by -24.0 points: 61.0 (58.5 to 63.5, over 3 seeds)")


def test_seeds_that_spread_over_the_edge_do_not_resolve_and_say_how_many_would() -> None:
    found = judge(0.85, 0.02, of(0.60, 0.80, 0.95))
    assert found.verdict is Verdict.NOT_RESOLVABLE
    assert found.words.endswith("about 114 seeds would tell (33 to 4,392 by the pilot's spread)")


def test_two_seeds_say_nothing_about_their_spread() -> None:
    found = judge(0.85, 0.02, of(0.84, 0.90))
    assert found.verdict is Verdict.NOT_RESOLVABLE
    assert "3 seeds or more would tell" in found.words


def test_a_run_that_was_still_rising_says_so_where_it_differs() -> None:
    assert "before it had settled" in judge(0.9, 0.02, of(0.5, by_steps=True)).words
    assert "before it had settled" not in judge(0.5, 0.05, of(0.5, by_steps=True)).words


def test_a_score_is_the_mean_over_variants_of_the_best_of_the_grid() -> None:
    runs = {(0, 0): 0.5, (0, 1): 0.9, (1, 0): 0.7, (1, 1): 0.3}
    assert score(runs, 2, 2) == pytest.approx(0.8)
    del runs[1, 1]
    assert score(runs, 2, 2) is None


def test_wilsons_interval_stays_within_a_share() -> None:
    low, high = share_interval(1.0, 100)
    assert high == 1.0 and 0.95 < low < 0.97
    low, high = share_interval(0.5, 10_000)
    assert (low, high) == pytest.approx((0.4902, 0.5098), abs=1e-4)
