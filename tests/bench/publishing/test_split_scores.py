"""Seeds that split: some learned the task, others failed; and rows that solve nothing."""

import pytest

from bench.publishing.leaderboard import build_leaderboard
from bench.publishing.task_tables import task_sections
from tests import records as made

LEVELS = {"one of the shown values": 0.25}


def runs(entry, accuracies):
    return [
        made.changed(
            record,
            accuracy=accuracy,
            validation=(accuracy,),
            validation_steps=(600,),
            plateaus=LEVELS,
            ended="maximum" if accuracy < 0.9 else "plateau",
        )
        for record, accuracy in zip(
            made.task_records([entry], seeds=range(len(accuracies))), accuracies, strict=True
        )
    ]


def row(records, entry):
    (section,) = task_sections(build_leaderboard(records, ("none",), within_budget=True))
    table, *_ = section.tables
    (found,) = [own for own in table.texts() if entry in own]
    return dict(zip(table.header, found, strict=True))


@pytest.mark.parametrize(
    ("accuracies", "words", "rank"),
    [
        ([0.216, 0.818, 0.966], "81.8 (failed 1 of 3)", ""),
        ([0.34, 0.997, 1.0], "99.7 (failed 1 of 3)", ""),
        ([0.216, 0.818, 0.966, 0.97, 0.98], "96.6 (failed 1 of 5)", "1-2"),
        ([0.257, 0.268, 0.353, 0.485, 0.619], "35.3 (failed 5 of 5)", "2"),
    ],
)
def test_a_row_whose_seeds_split_shows_its_median_and_needs_five_seeds_for_a_rank(
    accuracies, words, rank
):
    records = runs("gla", accuracies) + runs("softmax", [0.99, 0.98, 0.99, 0.98, 0.99])
    found = row(records, "gla")
    assert (found["accuracy (%)"], found["rank"]) == (words, rank)
    assert ("needs 5 seeds" in found["marks"]) is not rank
    ranked = [record for record in records if record.cell.task.seed < len(accuracies)]
    assert row(ranked, "softmax")["rank"] == ("" if not rank else row(records, "softmax")["rank"])


def test_a_row_that_solves_nothing_has_no_rank_and_its_reason_is_shown():
    records = runs("gla", [0.21, 0.26, 0.3]) + runs("softmax", [0.98, 0.99, 0.98])
    found = row([*records, *runs("linear", [0.6, 0.61, 0.62])], "gla")
    assert found["rank"] == "" and found["marks"].startswith("stuck near one of the shown values")
    (section,) = task_sections(build_leaderboard(records))
    assert any(note.startswith("Solve nothing, so not ranked: gla;") for note in section.notes)


def test_what_solves_nothing_is_in_no_mean_over_tasks_nor_is_a_task_that_nobody_solves():
    solved = runs("gla", [0.21, 0.26, 0.3]) + runs("softmax", [0.98, 0.99, 0.98])
    digits = [made.with_work(r, label="digits", task="digits") for r in solved]
    easy = [made.changed(r, accuracy=0.9, validation=(0.9,), ended="plateau") for r in digits]
    *_, section = task_sections(build_leaderboard([*solved, *easy]))
    (table,) = section.tables
    assert [row[-1] for row in table.texts()] == ["2 of 2", "1 of 2"]
    assert "Do not count on recall: gla." in section.notes
    hard = [made.changed(r, validation=(0.2,)) for r in digits]
    sections = task_sections(build_leaderboard([*solved, *hard]))
    assert [section.title.partition(" ")[0] for section in sections] == ["digits", "recall"]
