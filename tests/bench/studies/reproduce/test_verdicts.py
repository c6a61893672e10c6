from dataclasses import replace

import pytest

from bench.core.comparison import Runs
from bench.studies.reproduce.claims.samples import trained_row, why_no_verdict
from bench.studies.reproduce.verdicts import (
    PaperVerdict,
    judge,
    share_interval,
)
from tests.bench.studies.reproduce.conftest import given_arm


def of(*scores, answers=3000):
    return Runs(scores=dict(enumerate(scores)), num_examples=answers)


def test_an_interval_within_the_tolerance_is_reproduced():
    found = judge(1.0, 0.02, of(0.996, 0.997, 0.995))
    assert found.verdict is PaperVerdict.REPRODUCED
    assert found.words == "99.6 (99.2 to 100.0, over 3 seeds), -0.4 points (-0.8 to -0.0) off"
    # A mean within the tolerance is not enough, nor is a mean beyond it to differ.
    for mean in (0.84, 0.88):
        wide = judge(0.85, 0.02, of(mean - 0.04, mean, mean + 0.04))
        assert wide.verdict is PaperVerdict.NOT_RESOLVABLE


@pytest.mark.parametrize("published", [1.0, 0.5])
def test_one_seed_is_no_verdict_and_says_what_is_missing(published):
    found = judge(published, 0.02, of(0.996))
    assert found.verdict is PaperVerdict.ONE_SEED
    assert found.words.endswith("2 more seeds are missing for a verdict: seed=[0,1,2]")
    assert found.words.startswith("99.6 (99.3 to 99.8, one seed, so over test examples only), ")


def test_an_error_over_test_examples_that_runs_have_kept_is_taken():
    one = judge(0.5, 0.02, replace(of(0.6), error=0.05))
    assert "60.0 (50.2 to 69.8, one seed, so over test examples only)" in one.words
    three = judge(0.5, 0.02, replace(of(0.6, 0.6, 0.6), error=0.05))
    assert "60.0 (50.2 to 69.8, over 3 seeds)" in three.words


def test_an_interval_outside_differs_by_the_distance_of_the_means():
    found = judge(0.85, 0.02, of(0.60, 0.61, 0.62))
    assert found.verdict is PaperVerdict.DIFFERS
    numbers = "by -24.0 points (-27.2 to -20.8): 61.0 (57.8 to 64.2, over 3 seeds)"
    assert found.words == numbers


def test_seeds_that_spread_over_the_edge_do_not_resolve_and_say_how_many_would():
    found = judge(0.85, 0.02, of(0.60, 0.80, 0.95))
    assert found.verdict is PaperVerdict.NOT_RESOLVABLE
    assert found.words.endswith("about 126 seeds would tell (36 to 4,880 by the pilot's spread)")


def test_seeds_do_not_lower_the_error_over_test_examples():
    scores = of(0.860, 0.8602, 0.8598, answers=None)
    known = judge(0.838, 0.02, replace(scores, error=0.0001))
    assert known.verdict is PaperVerdict.DIFFERS
    found = judge(0.838, 0.02, replace(scores, error=0.005))
    assert found.verdict is PaperVerdict.NOT_RESOLVABLE
    assert found.words.endswith("off; no number of seeds would tell")


def test_a_run_that_was_still_rising_says_so_where_it_differs():
    low = (0.5, 0.51, 0.5)
    assert "before it had settled" in judge(0.9, 0.02, of(*low), has_settled=False).words
    assert "before it had settled" in judge(0.9, 0.02, of(0.5), has_settled=False).words
    assert "before it had settled" not in judge(0.5, 0.05, of(*low), has_settled=False).words


def arm(name, *, tuned=True, stuck="...", **more):
    """An arm with a seed per letter, stuck at x and still improving at /."""
    found = given_arm(name, [0.02 if letter == "x" else 0.5 for letter in stuck], **more)
    ends = {seed: "maximum" if letter == "/" else "plateau" for seed, letter in enumerate(stuck)}
    runs = {seed: replace(run, ended=ends[seed]) for seed, run in found.runs.items()}
    return replace(found, is_at_edge=not tuned, runs=runs)


def test_a_comparison_is_judged_only_if_every_arm_is_tuned_and_has_learned():
    assert why_no_verdict([arm("a"), arm("b")]) is None
    assert why_no_verdict([arm("a"), arm("b", tuned=False)]) == (
        PaperVerdict.UNTUNED,
        "b at a rate that is not its own search's for this task and its steps",
    )
    assert why_no_verdict([arm("a"), arm("b", stuck=".x.")]) == (
        PaperVerdict.NO_VERDICT,
        "b is stuck in 1 of 3 seeds",
    )
    assert why_no_verdict([arm("a"), given_arm("b", [0.3, 0.95, 0.96])]) == (
        PaperVerdict.NO_VERDICT,
        "some seeds of b failed, so 5 are needed",
    )
    assert why_no_verdict([arm("a"), given_arm("b", [0.3, *[0.95] * 4])]) is None
    assert why_no_verdict([arm("a"), arm("uniform", stuck="xxx", tried=())]) is None
    found = why_no_verdict([arm("a"), arm("b", stuck="..")])
    assert found == (PaperVerdict.ONE_SEED, "1 more seed is missing for a verdict")


def test_a_comparison_is_not_judged_while_most_runs_of_an_arm_still_improve():
    assert why_no_verdict([arm("a", stuck="..//"), arm("b")]) is None
    assert why_no_verdict([arm("a", stuck=".//"), arm("b"), arm("c", stuck="///")]) == (
        PaperVerdict.NO_VERDICT,
        "a was still improving in 2 of 3 seeds when its steps were spent; "
        "c was still improving in 3 of 3 seeds when its steps were spent",
    )
    assert why_no_verdict([arm("a"), arm("uniform", stuck="///", tried=())]) is None


def test_a_row_of_an_arm_is_a_share_and_says_how_its_rate_was_chosen():
    row = trained_row("a", given_arm("a", [1.0, 0.98, 1.0]), scale=100)
    assert row.low is not None and row.low < 97 and row.high == 100.0
    assert row.rate_chosen == "searched"
    assert trained_row("u", given_arm("u", [0.5, 0.5], tried=())).rate_chosen == "the task's own"


def test_what_is_stuck_everywhere_and_with_more_steps_was_not_learned():
    words = "not learned within 2,400 steps at rates 0.003, 0.01"
    beyond = arm("b", stuck="xx").runs
    stuck = arm("b", stuck="xxx", beyond={0.003: beyond[0], 0.01: beyond[1]})
    found = why_no_verdict([arm("a"), stuck])
    assert found == (PaperVerdict.NO_VERDICT, f"b: {words}")


def test_wilsons_interval_stays_within_a_share():
    low, high = share_interval(1.0, 100)
    assert high == 1.0 and 0.95 < low < 0.97
    low, high = share_interval(0.5, 10_000)
    assert (low, high) == pytest.approx((0.4902, 0.5098), abs=1e-4)
