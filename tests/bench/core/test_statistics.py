import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from bench.core.statistics import (
    BOOTSTRAP_SEED,
    CONFIDENCE,
    MIN_ROUNDS,
    NUM_RESAMPLES,
    Ratio,
    mean_interval,
    median,
    median_interval,
    num_cut,
    paired_ratio,
    percentiles,
    quantile,
    resampled_medians,
)

seconds = st.floats(min_value=1e-6, max_value=10.0)
pairs = st.lists(st.tuples(seconds, seconds), min_size=1, max_size=40)
many_pairs = st.lists(st.tuples(seconds, seconds), min_size=MIN_ROUNDS, max_size=40)
few = settings(max_examples=40, deadline=None)


def ratio_of(rounds):
    """The ratio of (member, reference) pairs, one of each a round."""
    numbers = list(range(len(rounds)))
    return paired_ratio([m for m, _ in rounds], numbers, [r for _, r in rounds], numbers)


def values(ratio):
    """Its median, and the ends of its interval if it has one."""
    return [v for v in (ratio.median, ratio.low, ratio.high) if v is not None]


def test_the_median_of_an_even_number_is_half_way_between_the_middle_two():
    assert median([4.0, 1.0, 3.0, 100.0]) == 3.5
    assert median([5.0]) == 5.0
    assert median([]) is None


@pytest.mark.parametrize(("q", "enough"), [(0.05, 100), (0.95, 100), (0.25, 20), (0.5, 10)])
def test_a_quantile_is_given_only_where_five_samples_are_beyond_it(q, enough):
    samples = [float(i) for i in range(enough)]
    assert quantile(samples, q) == pytest.approx(q * (enough - 1))
    assert quantile(samples[:-1], q) is None


def test_half_of_an_interval_is_told_relative_to_its_ratio_and_is_infinite_without_one():
    assert Ratio(median=2.0, low=1.9, high=2.3, num_rounds=9).half_width == pytest.approx(0.1)
    assert Ratio(median=2.0, low=None, high=None, num_rounds=5).half_width == math.inf


def test_five_rounds_have_no_interval_and_that_of_seven_is_their_whole_range():
    five = ratio_of([(1.0, 2.0)] * 5)
    assert (five.median, five.low, five.high, five.num_rounds) == (2.0, None, None, 5)
    assert ratio_of([(1.0, 2.0)] * 6).low == 2.0
    seven = ratio_of([(1.0, float(r)) for r in (4, 1, 7, 3, 2, 6, 5)])
    assert seven == Ratio(median=4.0, low=1.0, high=7.0, num_rounds=7)


@pytest.mark.parametrize("num_rounds", [1_000, 5_000])
def test_thousands_of_rounds_have_an_interval_as_wide_as_theory_says(num_rounds):
    found = ratio_of([(1.0, 1.0 + i) for i in range(num_rounds)])
    half_width = 1.96 * math.sqrt(num_rounds) / 2
    assert found.low == pytest.approx(num_rounds / 2 - half_width, abs=0.1 * half_width)
    assert found.high == pytest.approx(num_rounds / 2 + half_width, abs=0.1 * half_width)


def test_rounds_that_one_missed_are_passed_over_and_of_samples_of_one_the_median_counts():
    ratio = paired_ratio([1.0, 7.0, 1.0], [0, 1, 2], [2.0, 2.0, 9.0], [0, 2, 3])
    assert ratio == Ratio(median=2.0, low=None, high=None, num_rounds=2)
    assert paired_ratio([1.0], [0], [1.0], [1]) is None
    assert paired_ratio([], [], [], []) is None
    of_several = paired_ratio([1.0, 2.0, 50.0], [0, 0, 0], [6.0], [0])
    assert of_several is not None and of_several.median == 3.0


@few
@given(pairs, st.data())
def test_what_slows_a_whole_round_does_not_change_the_ratio(rounds, data):
    drift = data.draw(st.lists(st.floats(0.01, 100.0), min_size=len(rounds), max_size=len(rounds)))
    slowed = [(m * d, r * d) for (m, r), d in zip(rounds, drift, strict=True)]
    assert values(ratio_of(slowed)) == pytest.approx(values(ratio_of(rounds)), rel=1e-9)


@few
@given(many_pairs)
def test_the_interval_contains_the_median(rounds):
    ratio = ratio_of(rounds)
    assert ratio.low <= ratio.median <= ratio.high


@few
@given(many_pairs, st.randoms(use_true_random=False))
def test_the_order_of_rounds_does_not_matter(rounds, shuffle):
    shuffled = list(rounds)
    shuffle.shuffle(shuffled)
    assert ratio_of(shuffled) == ratio_of(rounds)


@pytest.mark.parametrize("num_rounds", [7, 40])
def test_95_of_100_intervals_or_more_hold_the_truth(num_rounds):
    draw = random.Random(num_rounds)
    hits = 0
    for _ in range(300):
        ratio = ratio_of([(1.0, math.exp(draw.gauss(0, 0.05))) for _ in range(num_rounds)])
        hits += ratio.low <= 1.0 <= ratio.high
    # Three standard deviations below 95 %; the bootstrap alone gives 87 % with seven rounds.
    assert hits / 300 > 0.95 - 3 * math.sqrt(0.95 * 0.05 / 300)


@pytest.mark.parametrize("num_values", [6, 7, 8, 9, 11, 12, 20, 61, 1000])
def test_as_many_values_are_cut_as_leave_the_median_within_95_times_in_100(num_values):
    cut = num_cut(num_values)
    beyond = [float(stats.binom.cdf(k, num_values, 0.5)) for k in (cut, cut + 1)]
    # The median is outside where at most `cut` values lie on one side of it, either side.
    assert 2 * beyond[0] <= 0.05 < 2 * beyond[1]


def test_each_resample_draws_as_many_values_as_there_are():
    values = np.arange(101.0)
    spread = float(np.std(resampled_medians(values)))
    draw = np.random.default_rng(BOOTSTRAP_SEED)
    resamples = values[draw.integers(0, 101, size=(NUM_RESAMPLES, 101))]
    assert np.array_equal(resampled_medians(values), np.median(resamples, axis=1))
    # Of n uniform values the median varies by n / (2 sqrt(n + 2)); of twice as many by 0.71 of it.
    assert spread == pytest.approx(101 / (2 * math.sqrt(103)), rel=0.1)


def test_the_interval_of_a_median_needs_six_samples_and_holds_the_median():
    assert median_interval([1.0, 2.0, 3.0, 4.0, 5.0]) is None
    assert median_interval([4.0, 1.0, 7.0, 3.0, 2.0, 6.0, 5.0]) == (1.0, 7.0)
    low, high = median_interval([float(i) for i in range(100)]) or (0.0, 0.0)
    assert 35 < low < 49.5 < high < 65


def test_of_several_processes_the_median_over_theirs_counts_however_many_rounds_each_has():
    steady, unsteady = {0: [1.0] * 9, 1: [2.0], 2: [3.0]}, {0: [1.0, 90.0, 1.0, 1.0], 1: [2.0]}
    for ratios, median_ratio in ((steady, 2.0), (unsteady, 1.5)):
        processes = [p for p, values in ratios.items() for _ in values]
        reference = [value for values in ratios.values() for value in values]
        count, numbers = len(reference), range(len(reference))
        found = paired_ratio([1.0] * count, numbers, reference, numbers, processes)
        assert found == Ratio(median=median_ratio, low=None, high=None, num_rounds=count)


def test_the_interval_of_six_processes_is_their_whole_range_however_steady_each_is():
    reference = [float(process) for process in range(1, 7) for _ in range(30)]
    processes = [process for process in range(6) for _ in range(30)]
    numbers = range(len(reference))
    found = paired_ratio([1.0] * len(reference), numbers, reference, numbers, processes)
    assert found == Ratio(median=3.5, low=1.0, high=6.0, num_rounds=180)


def test_the_mean_of_two_scores_is_known_as_little_as_students_t_says():
    assert mean_interval([0.5]) is None
    assert mean_interval([0.4, 0.6]) == pytest.approx((0.5 - 1.2706, 0.5 + 1.2706), abs=1e-4)
    low, high = mean_interval([0.9, 0.92, 0.94, 0.93, 0.91]) or (0, 0)
    assert (low, high) == pytest.approx((0.92 - 0.01963, 0.92 + 0.01963), abs=1e-4)
    assert mean_interval([1.0] * 50) == (1.0, 1.0)


@few
@given(st.lists(seconds, min_size=1, max_size=300))
def test_medians_and_percentiles_are_those_of_numpy_to_the_bit(samples):
    assert median(samples) == float(np.median(samples))
    tail = (1 - CONFIDENCE) / 2
    expected = np.quantile(samples, [tail, 1 - tail])
    assert percentiles(np.array(samples)) == (float(expected[0]), float(expected[1]))


def test_another_stream_draws_the_same_medians_in_an_order_of_its_own():
    values = np.arange(20.0)
    one, other = resampled_medians(values, 1), resampled_medians(values, 2)
    assert not np.array_equal(one, other)
    assert np.array_equal(np.sort(one), np.sort(other))
    assert abs(float(np.corrcoef(one, other)[0, 1])) < 0.1
