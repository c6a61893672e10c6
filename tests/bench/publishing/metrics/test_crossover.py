import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.core.record import Record
from bench.publishing.metrics.crossover import crossover, crossover_words, flops_words
from bench.publishing.metrics.speedup import speedup
from tests import records as made
from tests.bench.publishing.metrics.growing import with_ratios, with_times

LENGTHS = (256, 1024, 4096)


def found(records, references=None):
    return crossover(records, references or {})


def power_law(crossing, slope=1.0):
    """Ratios that are a straight line over length, both logarithmic."""
    return {n: (n / crossing) ** slope for n in LENGTHS}


@settings(max_examples=25, deadline=None)
@given(st.floats(300, 3500), st.floats(0.5, 2.0))
def test_a_known_crossover_is_recovered(crossing, slope):
    result = found(with_ratios("nala", power_law(crossing, slope), spread=1e-9))
    assert result.kind == "at"
    assert result.length == pytest.approx(crossing, rel=1e-6)
    assert result.interval == pytest.approx((crossing, crossing), rel=1e-6)
    assert result.spans == (pytest.approx((crossing, math.inf)),)


def test_its_interval_widens_with_the_spread_of_the_rounds_and_holds_the_truth():
    widths = []
    for spread in (0.01, 0.1):
        low, high = found(with_ratios("nala", power_law(700), spread=spread)).interval or (0, 0)
        assert low < 700 < high
        widths.append(high / low)
    assert widths[1] > 3 * (widths[0] - 1) + 1


@pytest.mark.parametrize("num_rounds", [7, 101])
def test_where_one_length_alone_is_noisy_its_interval_is_that_of_the_ratio_there(num_rounds):
    noisy = with_ratios("nala", {1024: 1.0}, spread=0.03, num_rounds=num_rounds)
    ratio = speedup(noisy[1024])
    steady = with_ratios("nala", {256: 0.25, 4096: 4.0}, spread=1e-9)
    low, high = found(steady | noisy).interval or (0.0, 0.0)
    assert ratio and ratio.low and ratio.high
    # Ratios grow as the length does: one that is lower by a tenth is crossed a tenth later.
    width = ratio.high / ratio.low
    assert low * ratio.high < 1024 * width**0.005 and high * ratio.low > 1024 / width**0.005
    assert high / low < width**1.6


def test_a_curve_that_a_straight_line_misses_widens_the_interval_as_far_as_the_line():
    result = found(with_ratios("nala", {256: 0.5, 1024: 0.9, 4096: 4.0}, spread=1e-9))
    straight = 1024 * 4 ** (math.log(0.9) / math.log(0.9 / 4.0))
    bend = max(straight / (result.length or 0), (result.length or 0) / straight)
    assert bend > 1.02
    ends = ((result.length or 0) / bend, (result.length or 0) * bend)
    assert result.interval == pytest.approx(ends, rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("num_rounds", [7, 20])
def test_95_of_100_intervals_hold_the_true_crossover(num_rounds):
    hits = 0
    for seed in range(300):
        records = with_ratios("nala", power_law(700), spread=0.1, num_rounds=num_rounds, seed=seed)
        low, high = found(records).interval or (0.0, 0.0)
        hits += low <= 700 <= high
    assert hits / 300 > 0.95 - 3 * math.sqrt(0.95 * 0.05 / 300)


def test_faster_everywhere_is_always_and_slower_everywhere_is_not_reached():
    faster = found(with_ratios("nala", dict.fromkeys(LENGTHS, 2.0)))
    slower = found(with_ratios("nala", dict.fromkeys(LENGTHS, 0.5)))
    assert (faster.kind, crossover_words(faster)) == ("always", "always, from 256")
    assert faster.spans == ((0.0, math.inf),)
    assert (slower.kind, crossover_words(slower)) == ("never", "not reached up to 4,096")
    assert slower.spans == ()


@pytest.mark.parametrize(
    ("ratios", "words"),
    [
        ((2.0, 1.0, 2.0), "faster, but not told apart at 1,024"),
        ((2.0, 2.0, 1.0), "faster, but not told apart at 4,096"),
        ((1.0, 2.0, 1.0), "faster, but not told apart at 256, 4,096"),
    ],
)
def test_an_undecided_length_after_one_where_it_is_faster_is_said(ratios, words):
    by_length = dict(zip(LENGTHS, ratios, strict=True))
    result = found(with_ratios("nala", by_length, spread=0.1))
    assert (result.kind, result.length, result.interval) == ("partly", None, None)
    assert crossover_words(result) == words


def test_what_is_faster_at_short_lengths_only_gives_way():
    result = found(with_ratios("nala", {256: 2.0, 1024: 1.0001, 4096: 0.5}, spread=0.001))
    assert result.kind == "gives_way"
    assert crossover_words(result).startswith("faster up to 1,0")


def test_back_and_forth_has_spans_and_no_single_length():
    result = found(with_ratios("nala", {256: 0.5, 512: 2.0, 1024: 0.5, 2048: 2.0}))
    assert (result.kind, result.length) == ("several", None)
    assert len(result.spans) == 2
    words = crossover_words(result)
    assert words.startswith("faster from 3") and words.endswith(" on")
    once = found(with_ratios("nala", {256: 0.5, 1024: 2.0, 4096: 0.5}))
    assert (once.kind, len(once.spans)) == ("several", 1)


def test_noise_about_1_is_no_crossing():
    result = found(with_ratios("nala", {256: 1.001, 1024: 0.999, 4096: 1.001}, spread=0.2))
    assert (result.kind, crossover_words(result)) == ("unsettled", "not told apart")


def test_too_few_rounds_settle_nothing():
    assert found(with_ratios("nala", power_law(700), num_rounds=5)).kind == "unsettled"


def test_a_shortest_length_that_is_undecided_leaves_the_lower_end_open():
    result = found(with_ratios("nala", {256: 1.0, 1024: 2.0, 4096: 4.0}, spread=0.1))
    assert result.kind == "at"
    assert result.interval[0] == 0.0
    assert "[below 256, " in crossover_words(result)


def test_a_longest_length_that_is_undecided_leaves_the_upper_end_open():
    result = found(with_ratios("nala", {256: 0.2, 1024: 0.5, 4096: 1.0}, spread=0.1))
    assert result.kind == "at"
    assert result.interval[1] == math.inf
    assert crossover_words(result).endswith(", beyond 4,096]")
    unmet = found(with_ratios("nala", {256: 0.2, 1024: 0.5, 4096: 0.99}, spread=0.1, seed=1))
    low, _ = unmet.interval or (0.0, 0.0)
    assert unmet.length is None and crossover_words(unmet) == f"beyond {low:,.0f}"


def test_it_needs_three_lengths_and_another_than_the_reference():
    two = with_ratios("nala", {256: 0.5, 1024: 2.0})
    assert crossover(two, {}) is None
    own: dict[int, Record] = {}
    for n in LENGTHS:
        cell = made.kernel_cell("softmax", seq_len=n)
        own[n] = made.ok_record(cell, made.speed([1.0] * 9, reference_key=cell.key))
    assert crossover(own, own) is None


@pytest.mark.parametrize("mark", [{"leaks_future": True}, {"flops_off": 2.0}])
def test_lengths_with_a_mark_that_costs_the_rank_are_passed_over(mark):
    assert crossover(with_ratios("nala", power_law(700), **mark), {}) is None


def test_the_order_of_records_does_not_matter():
    records = with_ratios("nala", power_law(700), spread=0.05)
    assert found(dict(reversed(records.items()))) == found(records)


def test_flops_have_a_crossover_of_their_own():
    own = {n: 2_000_000 * n for n in LENGTHS}
    softmax = {n: 4000 * n * n for n in LENGTHS}
    records = with_ratios("nala", power_law(2000), spread=0.001, flops=own)
    references = with_ratios("softmax", dict.fromkeys(LENGTHS, 1.0), flops=softmax)
    result = found(records, references)
    assert result.flops_length == pytest.approx(500)
    assert flops_words(result) == "500"
    assert result.reason


@pytest.mark.parametrize(
    ("own", "words"),
    [
        (lambda n: n, "always, from 256"),
        (lambda n: 10**6 * n, "not reached up to 4,096"),
        (lambda n: n * n, "fewer at short lengths only"),
    ],
)
def test_flops_that_cross_at_no_length_say_who_has_fewer(own, words):
    records = with_ratios("nala", power_law(700), flops={n: own(n) for n in LENGTHS})
    softmax = {n: 1000 * n for n in LENGTHS}
    result = found(records, with_ratios("softmax", dict.fromkeys(LENGTHS, 1.0), flops=softmax))
    assert (flops_words(result), result.flops_length) == (words, None)


def test_flops_that_cross_within_the_interval_agree_with_the_time():
    def beside(crossing):
        own = {n: round(4000 * crossing) * n for n in LENGTHS}
        flops = {n: 4000 * n * n for n in LENGTHS}
        references = with_ratios("softmax", dict.fromkeys(LENGTHS, 1.0), flops=flops)
        wide = with_ratios("nala", power_law(700), spread=0.2, num_rounds=7, flops=own)
        return found(wide, references)

    result = beside(700)
    high = (result.interval or (0.0, 0.0))[1]
    assert high > 1.3 * (result.length or high)  # further than needs an explanation
    assert beside(0.99 * high).reason == "" != beside(1.01 * high).reason


@pytest.mark.parametrize(("ratio", "flops", "length"), [(0.5, 10, "4,096"), (2.0, 10**9, "256")])
def test_a_time_that_never_crosses_is_explained_at_its_longest_length_or_its_shortest(
    ratio, flops, length
):
    own = with_ratios("nala", dict.fromkeys(LENGTHS, ratio), flops={n: flops * n for n in LENGTHS})
    softmax = {n: 1000 * n * n for n in LENGTHS}
    references = with_ratios("softmax", dict.fromkeys(LENGTHS, 1.0), flops=softmax)
    assert f" at {length} tokens" in found(own, references).reason


def reason(times, flops, environment=made.ENVIRONMENT, **observed):
    """The reason for an entry that should win everywhere by FLOPs, and is slower when short."""
    softmax = with_times("softmax", {n: 1e-9 * n * n for n in LENGTHS}, flops=10**12)
    records = {}
    for n, seconds in times.items():
        beside = [1e-9 * n * n] * 20
        records[n] = made.ok_record(
            made.kernel_cell("nala", seq_len=n),
            made.speed([seconds] * 20, beside, flops=flops * n, **observed),
            environment=environment,
        )
    return found(records, softmax).reason


def test_a_time_that_hardly_grows_is_a_fixed_cost():
    words = reason({256: 5e-4, 1024: 6e-4, 4096: 10e-4}, 10_000)
    assert words.startswith("fixed cost: ")
    forty = reason({256: 3.3e-4, 1024: 6e-4, 4096: 16.8e-4}, 10_000)
    assert forty == "fixed cost: 40% of its time at 1,024 tokens does not grow with length"
    assert reason({256: 2.85e-4, 1024: 6e-4, 4096: 18.6e-4}, 10_000).startswith("rate: ")


def test_elementwise_work_is_the_feature_map():
    times = {n: 6e-7 * n for n in LENGTHS}
    assert reason(times, 10_000, elementwise_elements=10**6).startswith("feature map: ")
    assert reason(times, 10_000, elementwise_elements=1).startswith("rate: ")


@pytest.mark.parametrize(
    ("ceiling", "words"),
    [
        ({"flops_per_s": 1e15, "bytes_per_s": [[10**9, 1e12]]}, "bandwidth: moving its bytes"),
        ({"flops_per_s": 1e11, "bytes_per_s": [[10**9, 1e12]]}, "rate: "),
    ],
)
def test_bytes_that_set_the_floor_are_the_bandwidth(ceiling, words):
    known = made.ENVIRONMENT | {"calibration": {"ceilings": [made.ceiling(**ceiling)]}}
    times = {n: 6e-7 * n for n in LENGTHS}
    assert reason(times, 10_000, known, elementwise_elements=1).startswith(words)


def test_where_time_and_flops_agree_there_is_nothing_to_explain():
    flops = {n: 700 * n for n in LENGTHS}
    softmax = {n: n * n for n in LENGTHS}
    references = with_ratios("softmax", dict.fromkeys(LENGTHS, 1.0), flops=softmax)
    assert found(with_ratios("nala", power_law(720), flops=flops), references).reason == ""
