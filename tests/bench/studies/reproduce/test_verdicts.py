from __future__ import annotations

from dataclasses import replace

import pytest

from bench.studies.reproduce.verdicts import (
    Arm,
    Measured,
    PaperVerdict,
    chosen_points,
    judge,
    score_at,
    share_interval,
    why_no_verdict,
)


def of(*scores: float, answers: int = 3000, by_steps: bool = False) -> Measured:
    return Measured(scores=scores, num_answers=answers, by_steps=by_steps)


def test_an_interval_within_the_tolerance_is_reproduced() -> None:
    found = judge(1.0, 0.02, of(0.996, 0.997, 0.995))
    assert found.verdict is PaperVerdict.REPRODUCED
    assert found.words == "99.6 (99.2 to 100.0, over 3 seeds), -0.4 points (-0.8 to -0.0) off"


@pytest.mark.parametrize("published", [1.0, 0.5])
def test_one_seed_is_no_verdict_and_says_what_is_missing(published: float) -> None:
    found = judge(published, 0.02, of(0.996))
    assert found.verdict is PaperVerdict.ONE_SEED
    assert "one seed, so over test examples only" in found.words
    assert found.words.endswith("2 more seeds are missing for a verdict: seed=[0,1,2]")
    assert found.low is not None and 0.99 < found.low < 0.996


def test_an_error_over_test_examples_that_runs_have_kept_is_taken() -> None:
    one = judge(0.5, 0.02, Measured(scores=(0.6,), num_answers=3000, error=0.05))
    assert (one.low, one.high) == pytest.approx((0.6 - 1.96 * 0.05, 0.6 + 1.96 * 0.05), abs=1e-4)
    three = judge(0.5, 0.02, Measured(scores=(0.6,) * 3, num_answers=3000, error=0.05))
    assert (three.low, three.high) == pytest.approx((one.low, one.high), abs=1e-4)


def test_an_interval_outside_differs_by_the_distance_of_the_means() -> None:
    found = judge(0.85, 0.02, of(0.60, 0.61, 0.62))
    assert found.verdict is PaperVerdict.DIFFERS
    numbers = "by -24.0 points (-27.2 to -20.8): 61.0 (57.8 to 64.2, over 3 seeds)"
    assert found.words == numbers


def test_seeds_that_spread_over_the_edge_do_not_resolve_and_say_how_many_would() -> None:
    found = judge(0.85, 0.02, of(0.60, 0.80, 0.95))
    assert found.verdict is PaperVerdict.NOT_RESOLVABLE
    assert found.words.endswith("about 114 seeds would tell (33 to 4,392 by the pilot's spread)")


def test_two_seeds_say_nothing_about_their_spread() -> None:
    found = judge(0.85, 0.02, of(0.84, 0.90))
    assert found.verdict is PaperVerdict.ONE_SEED
    assert "1 more seed is missing for a verdict" in found.words


def test_a_run_that_was_still_rising_says_so_where_it_differs() -> None:
    low = (0.5, 0.51, 0.5)
    assert "before it had settled" in judge(0.9, 0.02, of(*low, by_steps=True)).words
    assert "before it had settled" not in judge(0.5, 0.05, of(*low, by_steps=True)).words


def test_a_score_is_the_mean_over_variants_at_the_best_point_of_the_grid() -> None:
    runs = {(0, 0): 0.5, (0, 1): 0.9, (1, 0): 0.7, (1, 1): 0.3}
    assert chosen_points(runs, 2, 2) == (1, 0)
    assert score_at(runs, (1, 0)) == pytest.approx(0.8)
    del runs[1, 1]
    assert chosen_points(runs, 2, 2) is None
    assert score_at(runs, (1, 0)) == pytest.approx(0.8)
    assert score_at(runs, (1, 1)) is None


def arm(name: str, *, tuned: bool = True, stuck: str = "...", control: bool = False) -> Arm:
    flags = tuple(letter == "x" for letter in stuck)
    scores = (0.5,) * len(flags)
    return Arm(name=name, is_tuned=tuned, stuck=flags, scores=scores, is_control=control)


def test_a_comparison_is_judged_only_if_every_arm_is_tuned_and_has_learned() -> None:
    assert why_no_verdict([arm("a"), arm("b")]) is None
    assert why_no_verdict([arm("a"), arm("b", tuned=False)]) == (
        PaperVerdict.UNTUNED,
        "b at a rate that is not its own search's for this task and its steps",
    )
    assert why_no_verdict([arm("a"), arm("b", stuck=".x.")]) == (
        PaperVerdict.NO_VERDICT,
        "b is stuck in 1 of 3 seeds",
    )
    assert why_no_verdict([arm("a"), arm("uniform", stuck="xxx", control=True)]) is None
    found = why_no_verdict([arm("a"), arm("b", stuck="..")])
    assert found == (PaperVerdict.ONE_SEED, "1 more seed is missing for a verdict")


def test_what_is_stuck_everywhere_and_with_more_steps_was_not_learned() -> None:
    words = "not learned within 2,400 steps at rates 0.003, 0.01"
    found = why_no_verdict([arm("a"), replace(arm("b", stuck="xxx"), not_learned=words)])
    assert found == (PaperVerdict.NO_VERDICT, f"b: {words}")


def test_wilsons_interval_stays_within_a_share() -> None:
    low, high = share_interval(1.0, 100)
    assert high == 1.0 and 0.95 < low < 0.97
    low, high = share_interval(0.5, 10_000)
    assert (low, high) == pytest.approx((0.4902, 0.5098), abs=1e-4)
