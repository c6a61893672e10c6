import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from bench.core.answers import UNSEEN
from bench.core.comparison import (
    FEW_SEEDS,
    Runs,
    compare,
    holm,
    mean_of,
    num_seeds_for,
    p_value,
    seed_interval,
    seeds_by_pilot,
    signs,
    spread_interval,
    within_share,
)

ROOT = Path(__file__).resolve().parents[3]
NUM_STUDIES = 40_000
LEAST = 0.93
"""Coverage that is asked for; of so many studies, chance moves it by 0.0013 (one deviation)."""


def runs(*scores, **known):
    return Runs(scores=dict(enumerate(scores)), **known)


def coverage(values, truth, error=0.0):
    low, high = seed_interval(values, error)
    return float(np.mean((low <= truth) & (truth <= high)))


# How often the interval holds the typical difference.

three_and_five = pytest.mark.parametrize("num_seeds", [3, 5])


@three_and_five
@pytest.mark.parametrize("spreads", [(0.1, 0.1), (0.01, 0.2)])
def test_differences_of_normal_spreads_are_covered(num_seeds, spreads):
    draw = np.random.default_rng(num_seeds)
    one, other = (s * draw.normal(size=(NUM_STUDIES, num_seeds)) for s in spreads)
    assert coverage(one + 0.05 - other, 0.05) >= LEAST


@three_and_five
@pytest.mark.parametrize("within", [0.0, 0.1, 0.3])
def test_differences_of_rows_with_the_same_two_modes_are_covered(num_seeds, within):
    draw = np.random.default_rng(num_seeds)
    shape = (2, NUM_STUDIES, num_seeds)
    scores = (draw.random(shape) < 0.5) + within * draw.normal(size=shape)
    assert coverage(scores[0] - scores[1], 0.0) >= LEAST


@three_and_five
@pytest.mark.parametrize(
    ("minority", "within"), [(0.1, 0.1), (0.3, 0.001), (1 / 3, 0.001), (1 / 3, 0.1), (1 / 3, 0.3)]
)
def test_the_median_difference_from_a_row_that_fails_in_up_to_a_third_of_its_runs_is_covered(
    num_seeds, minority, within
):
    draw = np.random.default_rng(num_seeds)
    shape = (NUM_STUDIES, num_seeds)
    scores = (draw.random(shape) < minority) + within * draw.normal(size=shape)
    assert coverage(scores, _median_of_two_modes(minority, within)) >= LEAST


def _median_of_two_modes(minority, within):
    """The median of modes at 0 and at 1, normal about each."""
    grid = np.linspace(-2, 3, 100_001)
    below = (1 - minority) * stats.norm.cdf(grid / within) + minority * stats.norm.cdf(
        (grid - 1) / within
    )
    return float(grid[np.searchsorted(below, 0.5)])


@three_and_five
@pytest.mark.parametrize("seed_share", [0.0, 0.5, 2.0])
def test_another_test_set_is_covered_whatever_the_seeds_add(num_seeds, seed_share):
    draw = np.random.default_rng(num_seeds)
    of_examples = draw.normal(size=(NUM_STUDIES, 1))  # one test set, so the same for all seeds
    of_seeds = seed_share * math.sqrt(num_seeds) * draw.normal(size=(NUM_STUDIES, num_seeds))
    assert coverage(of_examples + of_seeds, 0.0, 1.0) >= LEAST


def _answers(draw, gap, num_seeds):
    """Two rows without any spread over seeds: 200 examples of 4 answers, hard or easy for both.

    A mean of 0.7 and of 0.7 - gap: an example's difficulty is what all its answers share.
    """
    ease = draw.beta(1.4, 0.6, size=(200, 1))
    luck = draw.random((200, 4))
    rows = []
    for lost in (0.0, gap):
        right = (luck < ease * (1 - lost / 0.7)).astype(np.uint8).ravel()
        scores = dict.fromkeys(range(num_seeds), float(np.mean(right)))
        answers = dict.fromkeys(range(num_seeds), right)
        known = {"right": answers, "per_cluster": 4, "test_set": "0" * 16}
        rows.append(Runs(scores=scores, num_examples=800, **known))
    return rows[0], rows[1]


@three_and_five
def test_noise_of_clustered_examples_alone_is_covered_pair_by_pair_and_row_by_row(num_seeds):
    draw = np.random.default_rng(num_seeds)
    hits = row_hits = 0
    for _ in range(600):
        one, other = _answers(draw, 0.03, num_seeds)
        found = compare(one, other)
        hits += found.low <= 0.03 <= found.high
        low, high = mean_of(one) or (0.0, 0.0)
        row_hits += low <= 0.7 <= high
    assert min(hits, row_hits) / 600 >= LEAST


# Sizes by hand.


def test_above_five_seeds_the_interval_is_that_of_students_t():
    scores = np.array([0.1, 0.5, 0.2, 0.4, 0.9, 0.3])
    expected = stats.t.interval(0.95, 5, scores.mean(), stats.sem(scores))
    assert seed_interval(scores) == pytest.approx(expected)
    assert p_value(scores - 0.2) == pytest.approx(stats.ttest_1samp(scores, 0.2).pvalue)


def test_up_to_five_seeds_the_interval_is_a_tenth_wider_and_holds_every_seed():
    low, high = seed_interval(np.array([0.4, 0.6]))
    assert (low, high) == pytest.approx((0.5 - 1.1 * 1.27062, 0.5 + 1.1 * 1.27062), abs=1e-4)
    low, high = seed_interval(np.array([1.0, 1.0, 1.0, 1.0, 0.0]))
    assert low == 0.0 and high == pytest.approx(0.8 + 1.1 * 2.77645 * 0.2, abs=1e-4)
    assert FEW_SEEDS == 5


def test_errors_of_seeds_and_of_examples_add_up_and_neither_is_divided_away():
    six = np.array([0.1, 0.5, 0.2, 0.4, 0.9, 0.3])
    of_seeds = float(seed_interval(six)[1] - six.mean())
    low, high = seed_interval(six, 0.2)
    assert high - six.mean() == pytest.approx(math.hypot(of_seeds, 1.95996 * 0.2), rel=1e-5)
    assert six.mean() - low == pytest.approx(high - six.mean())
    many = np.full(1000, 0.5)
    assert seed_interval(many, 0.2)[1] == pytest.approx(0.5 + 1.95996 * 0.2, rel=1e-5)


@pytest.mark.parametrize("num_seeds", [2, 5, 6, 9])
@pytest.mark.parametrize("error", [0.0, 0.4])
def test_a_p_value_is_below_5_percent_just_where_the_interval_excludes_0(num_seeds, error):
    draw = np.random.default_rng(num_seeds)
    seen = set()
    for shift in np.linspace(0, 4, 150):
        values = shift + draw.normal(size=num_seeds)
        low, high = seed_interval(values, error)
        excluded = bool(low > 0 or high < 0)
        assert (p_value(values, error) < 0.05) is excluded
        assert p_value(-values, error) == p_value(values, error)
        seen.add(excluded)
    assert seen == {False, True}


def test_differences_that_do_not_vary_are_certain_and_none_is_no_evidence():
    assert p_value(np.array([0.02, 0.02, 0.02])) == 0.0
    assert p_value(np.zeros(3)) == 1.0
    found = compare(runs(0.9, 0.8, 0.7), runs(0.9, 0.8, 0.7))
    assert (found.mean, found.low, found.high, found.ahead, found.p_value) == (0, 0, 0, 0.5, 1)
    assert not found.is_ahead and not found.is_behind


def test_rows_are_compared_seed_by_seed_and_the_sign_says_which_is_better():
    one, other = runs(0.5, 0.7, 0.9, 0.6), runs(0.48, 0.679, 0.878, 0.577)
    found, turned = compare(one, other), compare(other, one)
    assert found.is_ahead and turned.is_behind and found.num_seeds == 4
    assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low))
    assert found.mean == pytest.approx(0.0215) and found.ahead == pytest.approx(1 - turned.ahead)
    assert compare(one, other, less_is_better=True).is_behind


def test_one_seed_is_one_draw_and_is_not_compared():
    assert compare(runs(0.9), runs(0.1)) is None
    assert mean_of(runs(0.9)) is None
    assert mean_of(runs(0.9, None)) is None


def test_a_missing_seed_reaches_from_the_worst_to_the_best():
    other = runs(0.5, 0.51, 0.49)
    found = compare(runs(0.99, 0.98, None), other)
    worst, best = (compare(runs(0.99, 0.98, end), other) for end in (0.0, 1.0))
    assert (found.low, found.high) == (worst.low, best.high)
    assert found.ahead == pytest.approx((worst.ahead + best.ahead) / 2)
    assert found.mean == pytest.approx(0.48) and found.num_seeds == 3
    assert found.p_value == pytest.approx(max(worst.p_value, best.p_value))
    assert compare(runs(0.99, 0.98), other) == found  # one that has no record at all
    # Where both lack it, it was not run.
    assert compare(runs(0.99, 0.98), runs(0.5, 0.51)).num_seeds == 2


def test_a_missing_score_without_bounds_could_be_anything():
    found = compare(runs(1.0, 1.1, None), runs(2.0, 2.1, 2.2), less_is_better=True)
    assert (found.low, found.high, found.p_value, found.ahead) == (-math.inf, math.inf, 1.0, 0.5)
    assert found.mean == pytest.approx(1.0)


# The error of the test examples.


def _floor(first, second, **unit):
    """Error over examples of rows whose seeds do not differ."""
    found = compare(first, second, **unit)
    return (found.high - found.low) / 2 / 1.95996


def test_without_more_the_error_is_that_of_counted_answers_however_many_seeds():
    expected = math.sqrt((0.9 * 0.1 + 0.8 * 0.2) / 10_000)
    for num_seeds in (3, 12):
        pair = (runs(*[share] * num_seeds, num_examples=10_000) for share in (0.9, 0.8))
        assert _floor(*pair) == pytest.approx(expected, rel=0.01)


def test_a_record_that_says_its_clustered_error_is_believed():
    pair = [runs(s, s, s, num_examples=10_000, error=e) for s, e in ((0.9, 0.03), (0.8, 0.04))]
    assert _floor(*pair) == pytest.approx(0.05, rel=0.001)
    in_bits = [runs(s, s, s, error=e) for s, e in ((2.9, 0.03), (2.8, 0.04))]
    assert _floor(*in_bits, less_is_better=True) == pytest.approx(0.05, rel=1e-5)


def test_a_score_with_a_unit_has_no_binomial_error():
    pair = [runs(s, s, s, num_examples=10_000) for s in (0.9, 0.8)]
    assert _floor(*pair, less_is_better=True) == 0.0


def _told(bits, test_set="a" * 16, **more):
    known = {"num_examples": bits.size, "right": dict.fromkeys(range(3), bits)} | more
    return runs(*[float(bits.mean())] * 3, test_set=test_set, **known)


def test_what_is_hard_for_both_cancels_where_the_test_set_is_the_same():
    hard = (np.arange(4000) % 2).astype(np.uint8)
    better = hard.copy()
    better[:80:2] = 1
    paired, apart = _floor(_told(better), _told(hard)), _floor(_told(better), _told(hard, "b" * 16))
    assert paired == pytest.approx(math.sqrt(40) / 4000, rel=0.06)
    assert apart == pytest.approx(math.sqrt(2 * 0.25 / 4000), rel=0.01)
    unknown = (_told(bits, "") for bits in (better, hard))
    assert _floor(*unknown) == pytest.approx(apart, rel=0.01)
    assert compare(_told(better), _told(hard)).is_ahead
    assert not compare(_told(better), _told(hard, "b" * 16)).is_ahead


def test_two_rows_that_never_differ_may_yet_do_so_on_the_next_example_either_way():
    bits = (np.arange(4000) % 2).astype(np.uint8)
    expected = math.sqrt(2 * UNSEEN) / 4000
    assert _floor(_told(bits), _told(bits)) == pytest.approx(expected, rel=0.001)


def test_answers_of_one_example_are_not_independent():
    draw = np.random.default_rng(0)
    one, other = (np.repeat(draw.integers(0, 2, 1000), 4).astype(np.uint8) for _ in range(2))
    apart = _floor(_told(one), _told(other))
    together = _floor(_told(one, per_cluster=4), _told(other, per_cluster=4))
    assert together == pytest.approx(2 * apart, rel=0.03)
    for mixed in (
        (_told(one, per_cluster=4), _told(other)),
        (_told(one), _told(other, per_cluster=4)),
    ):
        assert _floor(*mixed) == together


def test_answers_of_unknown_test_sets_are_counted_and_not_laid_side_by_side():
    bits = (np.arange(4000) % 2).astype(np.uint8)
    right = {0: bits, 1: 1 - bits, 2: bits, 3: 1 - bits}
    low, high = mean_of(runs(0.5, 0.5, 0.5, 0.5, num_examples=4000, right=right)) or (0.0, 0.0)
    assert high - low == pytest.approx(2 * 1.95996 * math.sqrt(0.25 / 4000), rel=0.01)


def test_answers_that_some_seed_lacks_are_not_paired():
    bits = (np.arange(4000) % 2).astype(np.uint8)
    lacking = _told(bits, right={0: bits, 1: bits})
    assert _floor(lacking, _told(bits)) == pytest.approx(math.sqrt(2 * 0.25 / 4000), rel=0.01)


def test_a_row_that_answers_all_rightly_may_still_err_on_the_next_test_set():
    low, high = mean_of(runs(1.0, 1.0, 1.0, num_examples=100)) or (0.0, 0.0)
    # The exact interval leaves 3.6 wrong of 100 open.
    assert 0.964 < low < 0.98 and high == pytest.approx(2 - low)
    # Four answers to each of 100 examples are no more examples.
    assert mean_of(runs(1.0, 1.0, 1.0, num_examples=400, per_cluster=4)) == (low, high)
    assert mean_of(runs(1.0, 1.0, 1.0)) == (1.0, 1.0)


def test_the_interval_of_a_row_knows_no_bounds_unless_it_is_cut_to_a_share():
    found = mean_of(runs(0.2, 0.9, 0.7))
    assert found is not None and found[0] < 0 and found[1] > 1
    assert within_share(found) == (0.0, 1.0) and within_share((0.2, 0.3)) == (0.2, 0.3)
    assert mean_of(runs(0.2, None, 0.9, 0.7)) == found
    # Of a score with a unit, the number of examples says nothing.
    assert mean_of(runs(0.2, 0.9, 0.7, num_examples=4), is_share=False) == found


# Several differences, and how many seeds they need.


def test_holm_holds_each_against_what_is_left_and_stops_at_the_first_that_fails():
    assert holm([0.01, 0.04, 0.03]) == (True, False, False)
    assert holm([0.01, 0.04, 0.024]) == (True, True, True)
    assert holm([0.03, 0.03]) == (False, False)
    assert holm([0.04]) == (True,)
    assert holm([0.04], level=0.01) == (False,)
    assert holm([]) == ()


def test_signs_are_those_of_the_settled_comparisons_at_their_places():
    ahead, behind = (compare(runs(*s), runs(0.5, 0.51, 0.5)) for s in ([0.9] * 3, [0.1] * 3))
    unsettled = compare(runs(0.5, 0.2, 0.9), runs(0.5, 0.51, 0.5))
    assert signs([None, ahead, unsettled, behind]) == [0, 1, 0, -1]


def test_the_number_of_seeds_grows_with_the_spread_and_with_the_power():
    assert num_seeds_for(0.004, 0.03) == 444
    assert num_seeds_for(-0.004, 0.03) == 444
    assert num_seeds_for(0.004, 0.03, power=0.9) == 593
    assert num_seeds_for(0.01, 0.01) == 10
    assert num_seeds_for(0.5, 0.001) == num_seeds_for(0.5, 0.0) == 2
    assert num_seeds_for(0.0, 0.03) is None
    assert num_seeds_for(1e-5, 0.03) == pytest.approx(70_640_000, rel=1e-3)


def test_three_pilot_seeds_hardly_know_how_many_are_needed():
    assert spread_interval(1.0, 3) == pytest.approx((0.5207, 6.2847), abs=1e-4)
    assert spread_interval(1.0, 100)[1] == pytest.approx(1.1617, abs=1e-4)
    found = seeds_by_pilot(0.01, 0.02, 3)
    assert str(found) == "about 34 seeds (11 to 1,242 by the pilot's spread)"
    assert seeds_by_pilot(0.0, 0.02, 3) is None
    with pytest.raises(ValueError, match="1 seeds have no spread"):
        spread_interval(1.0, 1)


def test_scipy_is_loaded_only_when_something_is_compared():
    code = (
        "import sys, bench.core.statistics, bench.core.comparison, bench.core.answers\n"
        "import bench.studies.reproduce.looks, bench.publishing.metrics.ranks\n"
        "import bench.publishing.publish, bench.studies.catalogue.listing, bench.measuring.config\n"
        "assert 'scipy' not in sys.modules\n"
        "from bench.core.comparison import p_value\n"
        "import numpy; p_value(numpy.array([1.0, 2.0]))\n"
        "assert 'scipy.special' in sys.modules and 'scipy.stats' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
