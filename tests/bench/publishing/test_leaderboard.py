from __future__ import annotations

import random
from dataclasses import replace

import pytest

from bench.core.record import Record, Status
from bench.publishing.leaderboard import Leaderboard, Ranking, build_leaderboard
from bench.publishing.metrics.ranks import place_among
from tests import records as made

METRICS = ("latency_s", "peak_memory_bytes")
CONTROLS = ("uniform", "none")


def board(records: list[Record]) -> Leaderboard:
    return build_leaderboard(records, CONTROLS)


def only_ranking(records: list[Record]) -> Ranking:
    (ranking,) = board(records).rankings
    return ranking


def fixed(entry: str, speedup: float, spread: float = 0.0, **changes: object) -> Record:
    """A record whose speed-up lies between `speedup` - `spread` and `speedup` + `spread`."""
    reference = [1.0] * 9
    samples = [1 / (speedup + spread * step / 4) for step in range(-4, 5)]
    return made.ok_record(made.kernel_cell(entry, **changes), made.speed(samples, reference))


def test_entries_are_ranked_by_their_speed_up() -> None:
    ranking = only_ranking([fixed("a", 0.5), fixed("b", 3.0), fixed("c", 2.0)])
    assert [(s.rank, s.entry) for s in ranking.standings] == [("1", "b"), ("2", "c"), ("3", "a")]


def test_entries_whose_intervals_overlap_share_their_places() -> None:
    ranking = only_ranking(
        [fixed("a", 5.0), fixed("b", 2.0, 0.2), fixed("c", 2.1, 0.2), fixed("d", 1.0)]
    )
    assert [(s.rank, s.entry) for s in ranking.standings] == [
        ("1", "a"),
        ("2-3", "c"),
        ("2-3", "b"),
        ("4", "d"),
    ]


def test_overlap_is_not_passed_on_from_neighbour_to_neighbour() -> None:
    low, middle, high = (1.0, 2.0), (2.0, 3.0), (3.0, 4.0)
    everyone = [low, middle, high]
    assert [place_among(own, everyone) for own in everyone] == [(2, 3), (1, 3), (1, 2)]


def test_the_reference_has_a_rank_of_its_own() -> None:
    ranking = only_ranking([fixed("nala", 2.0), fixed("softmax", 1.0), fixed("linear", 0.5)])
    assert [s.entry for s in ranking.standings] == ["nala", "softmax", "linear"]
    assert ranking.standings[1].rank == "2"


def test_controls_come_last_and_take_no_place() -> None:
    ranking = only_ranking([fixed("none", 900.0), fixed("uniform", 50.0), fixed("nala", 2.0)])
    assert [(s.rank, s.entry) for s in ranking.standings] == [
        ("1", "nala"),
        ("control", "none"),
        ("control", "uniform"),
    ]


@pytest.mark.parametrize("found", [{"leaks_future": True}, {"flops_off": 2.0}])
def test_a_mechanism_that_does_other_work_than_it_claims_has_no_rank_and_takes_no_place(
    found: dict[str, object],
) -> None:
    fast = made.speed([0.1] * 9, [1.0] * 9, **found)
    records = [
        made.ok_record(made.kernel_cell("fast"), fast),
        fixed("nala", 2.0),
        fixed("linear", 3.0),
        fixed("none", 9.0),
    ]
    ranking = only_ranking(records)
    assert [(s.rank, s.entry, bool(s.marks)) for s in ranking.standings] == [
        ("1", "linear", False),
        ("2", "nala", False),
        ("", "fast", True),
        ("control", "none", False),
    ]


def test_other_marks_leave_the_rank() -> None:
    samples = made.speed([0.5] * 9, [1.0] * 9, is_view=True, oracle="itself", is_foreign=True)
    (standing,) = only_ranking([made.ok_record(made.kernel_cell("mine"), samples)]).standings
    assert (standing.rank, len(standing.marks)) == ("1", 3)


def test_a_latency_of_other_rounds_than_the_newest_ones_is_marked() -> None:
    def timed(entry: str, rounds: str, day: int) -> Record:
        result = made.speed([1.0] * 9, rounds_key=rounds)
        started = f"2031-05-{day:02}T07:08:09Z"
        return made.ok_record(made.kernel_cell(entry), result, started_at=started)

    records = [timed("nala", "a", 6), timed("linear", "b", 7), timed("flatten", "b", 7)]
    assert {s.entry: s.marks for s in only_ranking(records).standings} == {
        "nala": ("timed in other rounds",),
        "linear": (),
        "flatten": (),
    }


def test_without_an_interval_an_entry_is_shown_and_not_ranked() -> None:
    few = made.ok_record(made.kernel_cell("few"), made.speed([0.5] * 5, [1.0] * 5))
    alone = made.ok_record(made.kernel_cell("alone"), made.speed([0.5] * 9, []))
    ranking = only_ranking([alone, few, fixed("nala", 1.5)])
    assert [(s.rank, s.entry) for s in ranking.standings] == [
        ("", "few"),
        ("1", "nala"),
        ("", "alone"),
    ]


def test_a_cell_without_a_number_is_last_in_its_table_and_among_the_holes() -> None:
    hole = made.failed_record(made.kernel_cell("flatten"), Status.TIMED_OUT, "60 s of silence")
    result = board([hole, fixed("none", 9.0), fixed("nala", 2.0)])
    assert [s.entry for s in result.rankings[0].standings] == ["nala", "none", "flatten"]
    assert result.holes == (hole,)


@pytest.mark.parametrize(
    "changes",
    [
        {"seq_len": 512},
        {"batch_size": 2},
        {"num_heads": 8},
        {"head_dim": 32},
        {"dtype": "bfloat16"},
        {"mode": "forward_backward"},
        {"causal": True},
        {"scope": "layer"},
        {"cache": "cold"},
        {"device": "cuda:0"},
        {"num_threads": 2},
    ],
)
def test_what_may_not_be_compared_is_not_in_one_ranking(changes: dict[str, object]) -> None:
    result = board([fixed("nala", 2.0), fixed("linear", 3.0, **changes)])
    assert [[s.entry for s in r.standings] for r in result.rankings] in (
        [["nala"], ["linear"]],
        [["linear"], ["nala"]],
    )


def test_machines_versions_and_methods_are_not_in_one_ranking() -> None:
    cell = made.kernel_cell("linear")
    result = made.speed([1.0] * 9)
    torch = {"versions": {"torch": "2.12.0"}}
    records = [
        fixed("nala", 2.0),
        made.ok_record(cell, result, environment=made.ENVIRONMENT | torch),
        made.ok_record(cell, result, environment=made.ENVIRONMENT | {"processor": "B"}),
        made.ok_record(made.kernel_cell("flatten"), result, method_version=0),
    ]
    assert len(board(records).rankings) == 4
    assert len(board(records).machines) == 3


def test_only_the_newest_record_of_a_cell_is_shown() -> None:
    old = made.failed_record(
        made.kernel_cell("nala"), Status.CRASHED, "SIGSEGV", started_at="2030-01-01T00:00:00Z"
    )
    result = board([old, fixed("nala", 2.0)])
    assert result.holes == ()
    assert result.num_cells == 1


def test_one_entry_set_in_two_ways_is_two_rows() -> None:
    rows = [fixed("p", 2.0, hyperparameters={"m": 1}), fixed("p", 3.0, hyperparameters={"m": 2})]
    assert [s.entry for s in only_ranking(rows).standings] == ["p m=2", "p"]


def test_rankings_come_in_an_order_that_records_cannot_change() -> None:
    records = made.sweep_records()
    shuffled = list(records)
    random.Random(4).shuffle(shuffled)
    assert vars(board(shuffled)) == vars(board(records))
    places = [
        (r.setting.workload.dtype, r.setting.workload.mode, r.size) for r in board(records).rankings
    ]
    assert places[:4] == [
        ("float32", "forward", 256),
        ("float32", "forward", 1024),
        ("float32", "forward", 4096),
        ("float32", "forward", 131072),
    ]


def test_an_accuracy_is_the_mean_over_seeds_and_missing_seeds_are_counted() -> None:
    records = made.task_records(["softmax", "linear"], seeds=[0, 1, 2])
    lost = made.failed_record(made.task_cell("linear", seed=1), Status.DIVERGED, "loss was nan")
    records = [lost if r.cell == lost.cell else r for r in records]
    (task,) = board(records).tasks
    softmax, linear = task.scores
    assert (softmax.entry, softmax.num_missing, len(softmax.accuracies)) == ("softmax", 0, 3)
    assert softmax.accuracy == pytest.approx(sum(softmax.accuracies) / 3)
    assert (linear.num_missing, linear.statuses, task.num_seeds) == (1, (Status.DIVERGED,), 3)


def test_an_entry_that_was_given_fewer_seeds_is_counted_as_missing_them() -> None:
    records = made.task_records(["softmax"], seeds=[0, 1, 2]) + made.task_records(
        ["nala"], seeds=[0]
    )
    (task,) = board(records).tasks
    assert {score.entry: score.num_missing for score in task.scores} == {"softmax": 0, "nala": 2}


def test_one_task_with_two_settings_is_two_tables() -> None:
    quality = made.task_records(["nala"], seeds=[0])[0].result
    assert quality is not None
    records = [
        made.ok_record(made.task_cell("nala", settings={"num_steps": n}, shared_rate=None), quality)
        for n in (10, 600)
    ]
    assert [task.settings for task in board(records).tasks] == [
        '{"num_steps": 10}',
        '{"num_steps": 600}',
    ]


def test_scores_of_other_devices_threads_dtypes_and_trainings_are_not_in_one_table() -> None:
    quality = made.task_records(["nala"], seeds=[0])[0].result
    cell = made.task_cell("linear")
    assert quality is not None
    alike, *others = (
        made.ok_record(cell, quality),
        made.ok_record(made.task_cell("linear", device="cuda:0"), quality),
        made.ok_record(made.task_cell("linear", num_threads=2), quality),
        made.ok_record(replace(cell, workload=replace(cell.task, dtype="bfloat16")), quality),
        made.ok_record(cell, quality, training_version=2),
    )
    nala = made.ok_record(made.task_cell("nala"), quality)
    assert len(board([nala, alike]).tasks) == 1
    assert [len(board([nala, other]).tasks) for other in others] == [2] * 4


def test_an_empty_store_is_an_empty_board() -> None:
    empty = board([])
    assert (empty.rankings, empty.tasks, empty.holes, empty.num_cells) == ((), (), (), 0)


def test_compiled_and_eager_rows_of_one_shape_share_a_table_and_have_names_of_their_own() -> None:
    ranking = only_ranking([fixed("nala", 2.0), fixed("nala", 3.0, compile="inductor")])
    assert [s.entry for s in ranking.standings] == ["nala inductor", "nala"]


def test_speed_ups_over_several_things_have_no_order() -> None:
    other = made.speed([0.1] * 9, [1.0] * 9, reference="linear", reference_key="other")
    records = [fixed("nala", 2.0), made.ok_record(made.kernel_cell("flatten"), other)]
    ranking = only_ranking(records)
    assert [(s.rank, s.entry, s.reference) for s in ranking.standings] == [
        ("", "flatten", "linear"),
        ("", "nala", "softmax"),
    ]
    assert ranking.references == ("linear", "softmax")
