from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from bench.core.record import Quality
from bench.publishing.fronts import fronts, pareto_front
from bench.publishing.leaderboard import build_leaderboard
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
    assert found(timed(64) + made.task_records(ENTRIES))["latency_s"].names == ("softmax",)


def test_what_may_not_be_ranked_is_on_no_front():
    records = [
        made.changed(r, flops_off=2.0) if not r.cell.is_task and r.cell.entry == "linear" else r
        for r in timed(4096) + made.task_records(ENTRIES)
    ]
    assert set(found(records)["latency_s"].points) == {"softmax", "nala"}


def test_of_bits_per_byte_less_is_better():
    records = [
        made.changed(r, unit="bits per byte", accuracy=2 - r.result.accuracy)
        for r in made.task_records(ENTRIES)
        if isinstance(r.result, Quality)
    ]
    front = found(timed(4096) + records)["latency_s"]
    assert front.names == ("linear", "softmax")
    assert 1 < front.points["softmax"][1] < 1.1


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


def test_a_state_that_no_timing_knows_is_that_of_the_tasks_models():
    told = [made.changed(r, state_bytes=len(r.cell.entry)) for r in made.task_records(ENTRIES)]
    front = found(timed(4096) + told)["state_bytes"]
    assert front.ranking is None and front.points["linear"][0] == 6


def test_costs_of_another_machine_or_device_meet_no_scores():
    other = made.ENVIRONMENT | {"processor": "Other"}
    for elsewhere in (
        timed(4096, device="cuda:0"),
        [replace(record, environment=other) for record in timed(4096)],
    ):
        assert found(elsewhere + made.task_records(ENTRIES)) == {}


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


coordinate = st.integers(0, 6)
some = st.dictionaries(st.sampled_from("abcdefgh"), st.tuples(coordinate, coordinate))


@settings(max_examples=60, deadline=None)
@given(some)
def test_the_front_is_what_no_other_point_beats(points):
    def is_beaten(name):
        cost, score = points[name]
        return any(c <= cost and s >= score and (c, s) != (cost, score) for c, s in points.values())

    front = pareto_front(points)
    assert set(front) == {name for name in points if not is_beaten(name)}
    assert [points[name][0] for name in front] == sorted(points[name][0] for name in front)


def test_of_twins_both_are_on_the_front():
    assert pareto_front({"b": (1, 1), "a": (1, 1), "c": (1, 0)}) == ("a", "b")
    assert pareto_front({}) == ()
