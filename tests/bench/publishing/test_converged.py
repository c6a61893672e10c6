"""Scores at more and more steps: what is under-trained, and what has converged."""

from dataclasses import replace

from bench.publishing.converged import (
    by_steps,
    converged_section,
    doublings,
    with_under_trained,
)
from bench.publishing.leaderboard import build_leaderboard
from tests import records as made


def runs(entry, steps, accuracies):
    found = []
    for seed, accuracy in enumerate(accuracies):
        (record,) = made.task_records([entry], seeds=[seed])
        settings = {"num_steps": steps, "learning_rate": 0.006}
        record = made.with_work(record, settings=settings)
        found.append(made.changed(record, accuracy=accuracy, train_accuracy=accuracy))
    return found


RISING = [
    *runs("softmax", 100, [0.90, 0.91, 0.92]),
    *runs("softmax", 200, [0.96, 0.97, 0.98]),
    *runs("softmax", 400, [0.965, 0.975, 0.985]),
    *runs("linear", 100, [0.955, 0.965, 0.975]),
    *runs("linear", 200, [0.956, 0.966, 0.976]),
    *runs("nala", 100, [0.5, 0.6, 0.7]),
    *runs("nala", 200, [0.7, 0.8, 0.9]),
    *runs("none", 100, [0.1, 0.1, 0.1]),
    *runs("none", 200, [0.1, 0.1, 0.1]),
]


def tasks_by_steps():
    (found,) = by_steps(build_leaderboard(RISING, ("none",)).tasks).values()
    return found


def test_a_row_has_converged_when_a_doubling_changes_its_mean_by_less_than_a_point():
    found = {row.entry: row for row in doublings(tasks_by_steps())}
    assert found.keys() == {"softmax", "linear", "nala"}  # a control has nothing to converge to
    assert found["softmax"].steps == (100, 200, 400)
    assert [name for name, row in found.items() if row.has_converged] == ["linear", "softmax"]
    stuck = [
        made.changed(r, validation=(0.03,), validation_steps=(steps,))
        for steps in (100, 200)
        for r in runs("gla", steps, [0.03] * 3)
    ]
    (tasks,) = by_steps(build_leaderboard(stuck).tasks).values()
    assert not doublings(tasks)[0].has_converged
    late = [*stuck[:3], *runs("gla", 200, [0.9] * 3), *runs("gla", 400, [0.9] * 3)]
    (tasks,) = by_steps(build_leaderboard(late).tasks).values()
    assert doublings(tasks)[0].has_converged


def test_a_doubling_is_judged_over_the_seeds_that_both_have():
    records = [*runs("softmax", 100, [0.9, 0.9, 0.9, 0.1]), *runs("softmax", 200, [0.9, 0.91, 0.9])]
    (tasks,) = by_steps(build_leaderboard(records).tasks).values()
    (row,) = doublings(tasks)
    assert abs(row.changes[0] - 0.01 / 3) < 1e-9 and row.has_converged
    others = [_with_seed(record, record.cell.task.seed + 3) for record in records[4:]]
    (tasks,) = by_steps(build_leaderboard([*records[:3], *others]).tasks).values()
    assert doublings(tasks) == []


def _with_seed(record, seed):
    work = replace(record.cell.task, seed=seed)
    return replace(record, cell=replace(record.cell, workload=work))


def test_a_row_that_twice_the_steps_raise_by_a_point_is_under_trained():
    tasks = tasks_by_steps()
    marked = with_under_trained(tasks[100], 100, doublings(tasks))
    low = {score.entry for score in marked.scores if "under-trained" in score.marks}
    assert low == {"softmax", "nala"}
    late = [*runs("nala", 100, [0.5] * 3), *runs("nala", 200, [0.5] * 3)]
    late += runs("nala", 400, [0.8] * 3)
    falls = [*runs("linear", 100, [0.9] * 3), *runs("linear", 200, [0.8] * 3)]
    rises = [*runs("gla", 100, [0.9] * 3), *runs("gla", 200, [0.9101] * 3)]
    (tasks,) = by_steps(build_leaderboard([*late, *falls, *rises]).tasks).values()
    marked = with_under_trained(tasks[100], 100, doublings(tasks))
    assert [s.entry for s in marked.scores if "under-trained" in s.marks] == ["gla"]


def test_of_bits_the_fewer_are_better_and_a_doubling_that_takes_some_off_is_a_gain():
    records = [
        *runs("softmax", 100, [2.5, 2.51, 2.49]),
        *runs("softmax", 200, [2.3, 2.31, 2.29]),
        *runs("linear", 100, [2.1, 2.11, 2.09]),
        *runs("linear", 200, [2.104, 2.114, 2.094]),
        *runs("nala", 100, [2.7, 2.71, 2.69]),
        *runs("nala", 200, [2.704, 2.714, 2.694]),
    ]
    records = [made.changed(record, unit="bits per byte") for record in records]
    (tasks,) = by_steps(build_leaderboard(records).tasks).values()
    rows = doublings(tasks)
    marked = with_under_trained(tasks[100], 100, rows)
    assert {s.entry for s in marked.scores if "under-trained" in s.marks} == {"softmax"}
    section = converged_section("bytes", rows)
    (table,) = section.tables
    rank, entry, bits, *_, change, _, means = zip(table.header, *table.texts(), strict=True)
    assert entry[1:] == ("linear", "nala", "softmax") and rank[1:] == ("1", "2", "")
    assert bits[0] == "bits per byte" and bits[1].startswith("2.10")
    assert change[0] == "change by the last doubling (bits per byte)"
    assert change[1:] == ("+0.004", "+0.004", "-0.200") and means[3] == "100: 2.50, 200: 2.30"
    assert "by less than 0.01 bits per byte" in section.notes[0]
