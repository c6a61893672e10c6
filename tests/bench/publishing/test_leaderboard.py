import random
from dataclasses import replace

import pytest

from bench.publishing.leaderboard import (
    OTHER_ROUNDS,
    build_leaderboard,
    differing,
)
from bench.publishing.metrics.ranks import place_among
from tests import records as made

CONTROLS = ("uniform", "none")


def board(records):
    return build_leaderboard(records, CONTROLS)


def only_ranking(records):
    (ranking,) = board(records).rankings
    return ranking


def fixed(entry, speedup, spread=0.0, **changes):
    """A record whose speed-up lies between `speedup` - `spread` and `speedup` + `spread`.

    Each of its nine rounds was taken in a process of its own, so that rounds can be compared.
    """
    reference = [1.0] * 9
    samples = [1 / (speedup + spread * step / 4) for step in range(-4, 5)]
    timed = made.speed(samples, reference, processes=tuple(range(9)))
    return made.ok_record(made.kernel_cell(entry, **changes), timed)


def test_overlap_is_not_passed_on_from_neighbour_to_neighbour():
    low, middle, high = (1.0, 2.0), (2.0, 3.0), (3.0, 4.0)
    everyone = [low, middle, high]
    assert [place_among(own, everyone) for own in everyone] == [(2, 3), (1, 3), (1, 2)]
    inside = [(0.2, 0.9), (0.4, 0.6), (0.95, 1.0)]
    assert [place_among(own, inside) for own in inside] == [(2, 3), (2, 3), (1, 1)]


def test_without_an_interval_an_entry_is_shown_and_not_ranked():
    few = made.ok_record(made.kernel_cell("few"), made.speed([0.5] * 5, [1.0] * 5))
    alone = made.ok_record(made.kernel_cell("alone"), made.speed([0.5] * 9, []))
    ranking = only_ranking([alone, few, fixed("nala", 1.5)])
    assert [(s.rank_words, s.entry) for s in ranking.standings] == [
        ("", "few"),
        ("1", "nala"),
        ("", "alone"),
    ]


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
def test_what_may_not_be_compared_is_not_in_one_ranking(changes):
    result = board([fixed("nala", 2.0), fixed("linear", 3.0, **changes)])
    assert [[s.entry for s in r.standings] for r in result.rankings] in (
        [["nala"], ["linear"]],
        [["linear"], ["nala"]],
    )


def test_machines_versions_and_methods_are_not_in_one_ranking():
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
    later = replace(records[0], started_at="2099-01-01T00:00:00+00:00")
    assert board([later, *records]).started_at == (records[1].started_at, later.started_at)


def test_rankings_come_in_an_order_that_records_cannot_change():
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


def test_latencies_of_different_rounds_make_no_order():
    """Rows with two references: the newest rounds first, by latency only among themselves."""
    rows = {"a": (8.0, "1", "2030"), "b": (2.0, "1", "2030"), "c": (4.0, "2", "2031")}
    rows["d"] = (1.0, "2", "2031")
    records = [
        replace(
            made.changed(fixed(name, speedup), rounds_key=key, reference_key=f"{name < 'c'}"),
            started_at=f"{year}-05-06T07:08:09Z",
        )
        for name, (speedup, key, year) in rows.items()
    ]
    ranking = only_ranking(records)
    assert [s.entry for s in ranking.standings] == ["c", "d", "a", "b"]
    assert ranking.ranks is None


def test_a_row_of_older_rounds_than_the_newest_is_marked():
    old, new = (
        made.changed(fixed(entry, 2.0), rounds_key=key) for entry, key in (("a", "1"), ("b", "2"))
    )
    old = replace(old, started_at=new.started_at.replace("2031", "2030"))
    unknown = replace(fixed("c", 2.0), started_at=old.started_at)
    marks = {s.entry: s.marks for s in only_ranking([new, old, unknown]).standings}
    assert marks == {"a": (OTHER_ROUNDS,), "b": (), "c": ()}


def test_an_axis_that_some_settings_lack_counts_as_different():
    assert differing([{"a": 1, "b": 1}, {"a": 1}]) == {"b"}
    assert differing([{"a": 1}, {"a": 1}]) == differing([]) == set()


def test_scores_of_other_devices_threads_dtypes_and_trainings_are_not_in_one_table():
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
