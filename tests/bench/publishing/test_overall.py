import math
from dataclasses import replace

import pytest

from bench.publishing.leaderboard import build_leaderboard
from bench.publishing.overall import overall
from bench.publishing.task_tables import task_sections
from tests import records as made

ENTRIES = ("softmax", "linear", "none")


def only(records):
    (one,) = overall(build_leaderboard(records, ("none",)))
    return one


def rows(records):
    return {row.entry: row for row in only(records).rows}


def two_tasks(**options):
    return [
        r for task in ("recall", "digits") for r in made.task_records(ENTRIES, task=task, **options)
    ]


def test_a_mean_is_over_every_task_with_the_same_weight():
    one = only(two_tasks())
    assert [task.label for task in one.tasks] == ["digits", "recall"]
    for row in one.rows:
        own = [s.accuracy for task in one.tasks for s in task.scores if s.entry == row.entry]
        assert row.mean == pytest.approx(sum(a for a in own if a is not None) / 2)
        assert row.num_covered == 2
    assert [row.entry for row in one.rows] == ["softmax", "linear", "none"]
    assert one.rows[-1].is_control


def test_a_missing_task_leaves_no_mean_and_every_rank_that_it_could_have_had():
    records = [r for r in two_tasks() if (r.cell.entry, r.cell.task.label) != ("softmax", "digits")]
    softmax = rows(records)["softmax"]
    assert (softmax.mean, softmax.num_covered, softmax.rank) == (None, 1, (1, 2))
    low, high = softmax.interval or (0, 0)
    assert high - low > 0.5


def test_with_one_seed_there_is_a_mean_and_no_rank():
    found = rows(two_tasks(seeds=(0,)))
    assert found["softmax"].mean is not None
    assert {(row.rank, row.interval) for row in found.values()} == {(None, None)}
    untuned = [
        made.with_work(r, shared_rate=None)
        for r in made.task_records(["softmax", "linear"], task="digits")
    ]
    one = only([*made.task_records(ENTRIES), *untuned])
    assert len(one.averaged) == 1 and not one.rows, "no score of digits counts"


def test_bits_per_byte_have_no_mean_with_shares_and_one_task_has_none_either():
    digits = made.task_records(ENTRIES, task="digits")
    bits = [made.changed(r, unit="bits per byte") for r in digits]
    board = build_leaderboard(made.task_records(ENTRIES) + bits)
    assert overall(board) == ()


def test_devices_threads_dtypes_and_training_versions_are_never_averaged():
    for changes in (
        {"device": "cuda:0"},
        {"num_threads": 2},
        {"workload": {"dtype": "bfloat16"}},
        {"training_version": 2},
    ):
        board = build_leaderboard(
            made.task_records(ENTRIES)
            + [_changed(r, **changes) for r in made.task_records(ENTRIES, task="digits")]
        )
        assert overall(board) == ()
        assert len({section.title for section in task_sections(board)}) == 2


def _changed(record, **changes):
    if "training_version" in changes:
        return replace(record, **changes)
    work = replace(record.cell.task, **changes.pop("workload", {}))
    return replace(record, cell=replace(record.cell, workload=work, **changes))


def test_errors_of_tasks_add_in_squares_on_each_side_as_their_seeds_have_nothing_in_common():
    records = two_tasks(seeds=range(5))
    records[0] = made.changed(records[0], accuracy=0.6)  # beyond Student's t of its five seeds
    one = only(records)
    lopsided = []
    for row in one.rows:
        own = [s for task in one.tasks for s in task.scores if s.entry == row.entry]
        below = math.hypot(*(s.accuracy - s.interval[0] for s in own)) / 2
        above = math.hypot(*(s.interval[1] - s.accuracy for s in own)) / 2
        lopsided += [row.entry] if below > 1.2 * above else []
        expected = max(0.0, row.mean - below), min(1.0, row.mean + above)
        assert row.interval == pytest.approx(expected)
    assert lopsided == ["softmax"]
