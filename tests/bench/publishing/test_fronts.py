from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.publishing.fronts import fronts, pareto_front
from bench.publishing.leaderboard import build_leaderboard
from bench.publishing.metrics.ranks import Ranks
from tests import records as made

ENTRIES = ("softmax", "linear", "nala", "none")


def found(records):
    board = build_leaderboard(records, ("none", "uniform"))
    return {front.metric: front for front in fronts(board)}


def timed(*lengths, **shape):
    return [r for n in lengths for r in made.block_records(ENTRIES, seq_len=n, **shape)]


def test_costs_are_those_of_the_longest_length():
    ranking = found(timed(64, 4096) + made.task_records(ENTRIES))["latency_s"].ranking
    assert ranking.size == 4096
    assert found(timed(64) + made.task_records(ENTRIES))["latency_s"].clear == ("softmax",)


def test_scores_of_a_causal_task_stand_beside_causal_costs_or_none():
    def learned(causal):
        return [made.changed(r, causal=causal) for r in made.task_records(ENTRIES)]

    both = timed(4096) + timed(1024, causal=True)
    for causal, size in ((True, 1024), (False, 4096), (None, 4096)):
        ranking = found(both + learned(causal))["latency_s"].ranking
        assert ranking.size == size
    settings = {"causal": True}  # of a run that does not say what its model saw
    told = [made.with_work(r, settings=r.cell.task.settings | settings) for r in learned(None)]
    assert found(both + told)["latency_s"].ranking.size == 1024
    assert found(timed(4096) + learned(True)) == {}
    assert found(timed(4096, causal=True) + learned(False)) == {}


def test_costs_are_of_the_scores_device_and_of_the_machine_that_trained_if_it_has_any():
    task = made.task_records(ENTRIES)
    assert found(timed(4096, device="cuda:0") + task) == {}
    other = made.ENVIRONMENT | {"processor": "Other"}
    elsewhere = [replace(record, environment=other) for record in timed(4096)]
    ranking = found(elsewhere + task)["latency_s"].ranking
    assert ranking is not None and "Other" in ranking.setting.machine
    two_here = [r for r in timed(256) if r.cell.entry in ENTRIES[:2]]
    ranking = found(two_here + elsewhere + task)["latency_s"].ranking
    assert ranking is not None and "Other" not in ranking.setting.machine


def test_costs_are_of_a_forward_pass_in_the_dtype_of_the_task_with_as_many_rows_as_can_be():
    task = made.task_records(ENTRIES)
    usual, longer = timed(256), ({"mode": "forward_backward"}, {"dtype": "bfloat16"})
    for other in longer:
        ranking = found(usual + timed(4096, **other) + task)["latency_s"].ranking
        assert ranking is not None and ranking.size == 256
    grouped = found(usual + timed(4096, num_kv_heads=2) + task)["latency_s"].ranking
    assert grouped is not None and grouped.size == 256
    fewer = [r for r in timed(4096) if r.cell.entry != "nala"]
    ranking = found(usual + fewer + task)["latency_s"].ranking
    assert ranking is not None and ranking.size == 256


def told(entry, accuracies, state_bytes, **changes):
    records = made.task_records([entry], seeds=range(len(accuracies)))
    return [
        made.changed(record, accuracy=accuracy, state_bytes=state_bytes, **changes)
        for record, accuracy in zip(records, accuracies, strict=True)
    ]


ALIKE, BETTER, WORSE = [0.897, 0.902, 0.901], [0.98, 0.981, 0.979], [0.7, 0.71, 0.69]


def test_chance_takes_no_row_off_a_front_and_ties_with_a_cheaper_row_are_named():
    records = [
        *told("linear", [0.9, 0.9, 0.9], 1),
        *told("nala", WORSE, 1),
        *told("flatten", ALIKE, 8),
        *told("performer", WORSE, 9),
        *told("softmax", BETTER, 64),
    ]
    front = found(records)["state_bytes"]
    assert (front.clear, front.tied) == (("linear", "softmax"), ("flatten",))


def test_no_front_is_of_one_seed_shared_rates_or_rows_that_solve_nothing():
    better, worse = told("softmax", BETTER, 64), told("linear", ALIKE, 1)
    assert found([*better, *worse])["state_bytes"].names == ("linear", "softmax")
    stuck = {"validation": (0.25,), "validation_steps": (9,), "plateaus": {"a part": 0.25}}
    for others in (
        [*told("softmax", BETTER[:1], 64), *told("linear", ALIKE[:1], 1)],
        [*better, *(made.with_work(r, shared_rate=None) for r in worse)],
        [*better, *told("linear", [0.24, 0.25, 0.25], 1, **stuck)],
    ):
        assert found(others) == {}


size = st.integers(0, 6)
rows = st.dictionaries(st.sampled_from("abcdefgh"), st.tuples(size, size), min_size=1)


@settings(max_examples=60, deadline=None)
@given(rows)
def test_a_front_is_what_is_not_behind_a_row_that_costs_no_more(points):
    def is_ahead(one, other):
        return points[one][1] > points[other][1] + 1  # scores that differ by one are not settled

    names = tuple(sorted(points, key=lambda name: (-points[name][1], name)))
    ahead = np.array([[is_ahead(one, other) for other in names] for one in names])
    places = ((1, len(names)),) * len(names)
    ranks = Ranks(names=names, places=places, wins=ahead * 1.0, is_ahead=ahead, groups=())
    costs = {name: cost for name, (cost, _) in points.items()}
    front, tied = pareto_front(costs, ranks)
    for name in points:
        cheaper = [one for one in points if costs[one] < costs[name]]
        as_cheap = [one for one in points if costs[one] <= costs[name]]
        assert (name in front) is not any(is_ahead(one, name) for one in as_cheap)
        if name in front:
            assert (name in tied) is any(not is_ahead(name, one) for one in cheaper)
    assert [costs[name] for name in front] == sorted(costs[name] for name in front)
