import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.core.comparison import Runs
from bench.core.statistics import BOOTSTRAP_SEED, NUM_RESAMPLES
from bench.publishing.metrics.ranks import Ranked, decided, rank_runs, rank_speed, rank_words
from tests import records as made

few = settings(max_examples=20, deadline=None)


def together(times, key="r"):
    """Records whose rows shared their rounds; the reference takes a second in each."""
    return {
        name: made.ok_record(
            made.kernel_cell(name),
            made.speed(own, [1.0] * len(own), rounds_key=key, reference_key="s"),
        )
        for name, own in times.items()
    }


def places(ranks):
    return {name: rank_words(ranks.of(name)) for name in ranks.names}


def win(ranks, one, other):
    return float(ranks.wins[ranks.names.index(one), ranks.names.index(other)])


def test_rows_that_move_together_are_told_apart_where_their_intervals_overlap():
    draw = random.Random(0)
    slow_rounds = [draw.uniform(1, 2) for _ in range(12)]
    times = {"a": slow_rounds, "b": [1.02 * t for t in slow_rounds]}
    ranks = rank_speed(together(times))
    assert places(ranks) == {"a": "1", "b": "2"}
    assert win(ranks, "a", "b") == 1.0
    apart = rank_speed(together({"a": times["a"]}) | together({"b": times["b"]}, key="other"))
    assert places(apart) == {"a": "1-2", "b": "1-2"}
    assert apart.groups == (("a", "b"),)


def test_rows_without_a_steady_order_share_their_places():
    draw = random.Random(1)
    times = {n: [1 + draw.gauss(0, 0.1) for _ in range(20)] for n in "abc"} | {"z": [9.0] * 20}
    ranks = rank_speed(together(times))
    assert [ranks.of(n) for n in sorted(ranks.names)] == [(1, 3), (1, 3), (1, 3), (4, 4)]
    assert set(ranks.groups[0]) == {"a", "b", "c"}
    assert set(ranks.leaders()) == {"a", "b", "c"}
    assert win(ranks, "a", "z") == 1.0 and win(ranks, "z", "a") == 0.0


def test_seven_rounds_of_which_one_disagrees_settle_no_order():
    times = {"a": [1.0] * 7, "b": [1.1] * 6 + [0.9]}
    assert places(rank_speed(together(times))) == {"a": "1-2", "b": "1-2"}
    times["b"][-1] = 1.1
    assert places(rank_speed(together(times))) == {"a": "1", "b": "2"}
    times["b"][-1] = 1.0
    assert places(rank_speed(together(times))) == {"a": "1-2", "b": "1-2"}, "a tie is no win"


def in_processes(records):
    """The records with each round in a process of its own."""
    return {
        name: made.changed(record, processes=record.result.rounds)
        for name, record in records.items()
    }


def test_rows_of_other_rounds_need_intervals_apart_however_sure_the_resamples_are():
    # The interval of seven processes is their whole range: 1.0 to 2.0, and 1.5 to 1.9.
    fast, slow = [1 / 2.0] * 6 + [1 / 1.0], [1 / 1.5] * 6 + [1 / 1.9]
    ranks = rank_speed(in_processes(together({"a": fast}) | together({"b": slow}, key="other")))
    assert win(ranks, "a", "b") > 0.975
    assert places(ranks) == {"a": "1-2", "b": "1-2"}
    fast[-1] = 1 / 1.95
    apart = in_processes(together({"a": fast}) | together({"b": slow}, key="other"))
    assert places(rank_speed(apart)) == {"a": "1", "b": "2"}


def test_rows_of_other_rounds_are_tied_unless_both_had_several_processes():
    one, other = together({"a": [0.5] * 7}), together({"b": [1.0] * 7}, key="other")
    assert places(rank_speed(one | other)) == {"a": "1-2", "b": "1-2"}
    assert places(rank_speed(in_processes(one) | other)) == {"a": "1-2", "b": "1-2"}
    assert places(rank_speed(in_processes(one | other))) == {"a": "1", "b": "2"}


def test_records_that_do_not_say_which_rounds_they_shared_shared_none():
    times = [1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6]
    rows = {"a": times, "b": [1.02 * t for t in times]}
    assert places(rank_speed(together(rows))) == {"a": "1", "b": "2"}
    assert places(rank_speed(together(rows, key=""))) == {"a": "1-2", "b": "1-2"}


def test_rows_without_an_interval_are_not_ranked():
    records = together({"a": [1.0] * 9, "b": [2.0] * 5})
    assert rank_speed(records).names == ("a",)
    assert rank_speed(together({"b": [2.0] * 5})) is None
    assert rank_speed({}) is None


noisy = st.lists(st.floats(0.5, 2.0), min_size=9, max_size=9)


@pytest.mark.parametrize("num_rounds", [7, 8])
def test_a_win_is_the_share_of_resampled_rounds_whose_median_is_larger(num_rounds):
    speeds = np.random.default_rng(3).uniform(1, 2, size=(2, num_rounds))
    draw = np.random.default_rng(BOOTSTRAP_SEED)
    picks = draw.integers(0, num_rounds, size=(NUM_RESAMPLES, num_rounds))
    a, b = np.median(speeds[:, picks], axis=-1)
    ranks = rank_speed(together({"a": [*(1 / speeds[0])], "b": [*(1 / speeds[1])]}))
    assert win(ranks, "a", "b") == pytest.approx(((a > b).mean() + (a >= b).mean()) / 2, abs=1e-3)


@few
@given(st.dictionaries(st.sampled_from("abcdef"), noisy, min_size=2), st.randoms())
def test_the_order_of_rows_and_of_rounds_does_not_matter(times, shuffle):
    ranks = rank_speed(together(times))
    names = [*times]
    shuffle.shuffle(names)
    again = rank_speed(together({name: times[name] for name in names}))
    assert again == ranks and np.array_equal(again.wins, ranks.wins)
    order = list(range(9))
    shuffle.shuffle(order)
    permuted = rank_speed(together({n: [own[i] for i in order] for n, own in times.items()}))
    assert set(permuted.names) == set(ranks.names)
    # Which round is drawn when is chance, so that shares near the border may fall either way.
    for one in times:
        for other in times:
            assert win(permuted, one, other) == pytest.approx(win(ranks, one, other), abs=0.06)


@few
@given(st.dictionaries(st.sampled_from("abcdef"), noisy, min_size=1))
def test_wins_add_up_to_one_and_places_hold_the_row(times):
    ranks = rank_speed(together(times))
    for i, name in enumerate(ranks.names):
        first, last = ranks.places[i]
        assert 1 <= first <= i + 1 <= last <= len(times), name
        for j in range(len(ranks.names)):
            assert ranks.wins[i, j] + ranks.wins[j, i] == pytest.approx(1)
    for group in ranks.groups:
        assert len(group) > 1


@pytest.mark.slow
@pytest.mark.parametrize("num_rounds", [7, 20])
def test_of_two_rows_that_are_alike_an_order_is_claimed_in_5_of_100(num_rounds):
    draw = random.Random(num_rounds)
    claimed = 0
    for _ in range(400):
        times = {n: [math.exp(draw.gauss(0, 0.1)) for _ in range(num_rounds)] for n in "ab"}
        claimed += not rank_speed(together(times)).groups
    assert claimed / 400 < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 400)


def scores(**rows):
    return {name: dict(enumerate(own)) for name, own in rows.items()}


def rank_scores(rows, *, less_is_better=False, num_examples=None):
    runs = {name: Runs(scores=own, num_examples=num_examples) for name, own in rows.items()}
    return rank_runs(runs, less_is_better=less_is_better)


def test_scores_far_apart_are_ranked_and_close_ones_are_not():
    ranks = rank_scores(scores(a=[0.99, 0.98, 0.99], b=[0.98, 0.99, 0.98], c=[0.5, 0.51, 0.49]))
    assert places(ranks) == {"a": "1-2", "b": "1-2", "c": "3"}
    assert ranks.groups == (("a", "b"),)


def test_one_seed_has_no_order():
    assert rank_scores(scores(a=[0.9], b=[0.1])) is None
    assert rank_scores({}) is None


def test_scores_that_rise_and_fall_with_the_seed_are_compared_seed_by_seed():
    own = [0.5, 0.7, 0.9, 0.6, 0.8]
    ranks = rank_scores(scores(a=own, b=[s - 0.02 - 0.001 * i for i, s in enumerate(own)]))
    assert ranks is not None
    assert places(ranks) == {"a": "1", "b": "2"}


def test_few_examples_tell_less_apart_than_seeds_that_agree():
    rows = scores(a=[0.9, 0.9, 0.9], b=[0.88, 0.88, 0.88])
    apart, alike = rank_scores(rows, num_examples=100_000), rank_scores(rows, num_examples=100)
    assert apart is not None and alike is not None
    assert places(apart) == {"a": "1", "b": "2"}
    assert places(alike) == {"a": "1-2", "b": "1-2"}


@pytest.mark.parametrize("less_is_better", [False, True])
def test_a_missing_seed_widens_and_is_not_averaged_away(less_is_better):
    whole = scores(a=[0.99, 0.98, 0.99], b=[0.5, 0.51, 0.49], c=[0.1, 0.12, 0.11])
    lacking: dict[str, dict[int, float | None]] = whole | {"a": {0: 0.99, 1: 0.98, 2: None}}
    before = rank_scores(whole, less_is_better=less_is_better)
    after = rank_scores(lacking, less_is_better=less_is_better)
    assert before.of("a") == ((3, 3) if less_is_better else (1, 1))
    assert after.of("a") == (1, 3)
    # Those that have every seed are still told apart from each other.
    assert win(after, "b", "c") == win(before, "b", "c")


def test_a_seed_that_one_row_lacks_is_taken_at_its_worst_and_not_left_out():
    five = [0.99, 0.98, 0.99, 0.98, 0.99]
    other = [0.5, 0.51, 0.49, 0.5, 0.51]
    for lost in ({}, {5: None}):  # not run, or ended without a score
        rows = scores(a=five, b=[*other, 0.5])
        rows["a"] |= lost
        ranks = rank_scores(rows)
        assert ranks is not None
        assert places(ranks) == {"a": "1-2", "b": "1-2"}
    whole = rank_scores(scores(a=five, b=other))
    assert whole is not None
    assert places(whole) == {"a": "1", "b": "2"}


def test_a_missing_count_without_bounds_could_be_anything():
    lacking = [1.0, 1.01, 0.99, 1.0, 1.02, 1.0, 1.01, 0.99, None]
    rows = scores(a=lacking, b=[8.0, 8.1, 7.9, 8.0, 8.2, 8.0, 8.1, 7.9, 8.0])
    ranks = rank_scores(rows, less_is_better=True)
    assert ranks is not None
    # Filled with the bounds of a share, it would be ahead whichever end the seed took.
    assert places(ranks) == {"a": "1-2", "b": "1-2"}
    assert win(ranks, "a", "b") == 0.5


def test_that_two_cannot_be_told_apart_is_not_handed_on_to_a_third():
    rows = scores(a=[0.9] * 3, b=[0.88] * 3, c=[0.86] * 3, d=[0.5] * 3)
    ranks = rank_scores(rows, num_examples=900)
    assert places(ranks) == {"a": "1-2", "b": "1-3", "c": "2-3", "d": "4"}
    assert ranks.groups == (("a", "b"), ("b", "c"))
    assert ranks.of("e") is None and win(ranks, "a", "d") > 0.99
    alike = rank_scores(scores(**{name: [0.5, 0.6, 0.7] for name in "abc"}))
    assert alike is not None and alike.groups == (("a", "b", "c"),), "no part of a group"


def test_less_is_better_turns_the_order_around():
    rows = scores(a=[2.0, 2.01, 1.99], b=[1.0, 1.01, 0.99])
    ranks = rank_scores(rows, less_is_better=True)
    assert ranks.names == ("b", "a")


@pytest.mark.slow
def test_of_two_equal_mechanisms_an_order_is_claimed_in_5_of_100():
    draw = random.Random(0)
    claimed = 0
    for _ in range(1000):
        ranks = rank_scores(scores(**{n: [draw.gauss(0.8, 0.05) for _ in range(3)] for n in "ab"}))
        claimed += not ranks.groups
    assert claimed / 1000 < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 1000)


def runs(*scores):
    return Runs(scores=dict(enumerate(scores)), num_examples=10_000)


def test_pairs_are_decided_after_holm_and_an_open_one_counts_for_neither():
    rows = {"a": runs(0.9, 0.91, 0.9), "b": runs(0.5, 0.51, 0.5), "c": runs(0.5, 0.5, 0.51)}
    assert decided(rows, less_is_better=False) == {("a", "b"): 1, ("a", "c"): 1, ("b", "c"): 0}
    assert decided(rows, less_is_better=True)["a", "b"] == -1


def test_a_pair_that_alone_would_be_decided_is_open_among_others():
    ahead = [0.5 + gain for gain in (0.0, 0.02, 0.04, 0.01, 0.03, 0.05)]  # p = 0.02
    behind = Runs(scores=dict.fromkeys(range(6), 0.5))
    rows = {"a": Runs(scores=dict(enumerate(ahead))), "b": behind}
    assert decided(rows, less_is_better=False) == {("a", "b"): 1}
    assert not any(decided(rows | {"c": behind}, less_is_better=False).values())


def test_one_seed_decides_nothing():
    assert decided({"a": runs(0.9), "b": runs(0.1)}, less_is_better=False) == {("a", "b"): 0}


def test_a_rank_is_two_numbers_and_a_text_only_when_it_is_shown():
    rows = [Ranked(entry="a", rank=rank) for rank in ((1, 1), (1, 3), (10, 12), None)]
    assert [row.rank_words for row in rows] == ["1", "1-3", "10-12", ""]
    assert [row.leads for row in rows] == [True, True, False, False]
    assert rows[1].columns | {"rank_first": 1, "rank_last": 3} == rows[1].columns
    assert Ranked(entry="none", is_control=True).rank_words == "control"
