"""Seeds that split: some learned the task, others are stuck at a level of partial solutions."""

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
    ("accuracies", "words"),
    [
        ([0.243, 0.818, 0.966], "81.8 (solved 2 of 3)"),
        ([0.257, 0.268, 0.353, 0.485, 0.619], "35.3 (solved 0 of 5)"),
    ],
)
def test_a_row_whose_seeds_split_shows_its_median_and_how_many_solved_the_task(accuracies, words):
    records = runs("gla", accuracies) + runs("softmax", [0.99, 0.98, 0.99, 0.98, 0.99])
    found = row(records, "gla")
    assert found["accuracy (%)"] == words
    assert found["rank"] == "" and "stuck at one of the shown values" in found["marks"]


def test_a_row_that_is_stuck_in_each_seed_is_named_though_its_seeds_do_not_split():
    records = runs("gla", [0.25, 0.26]) + runs("softmax", [0.98, 0.99])
    (section,) = task_sections(build_leaderboard(records))
    assert any("so not ranked: gla. Where only some" in note for note in section.notes)


def test_rows_that_all_learned_and_controls_show_their_mean():
    records = runs("softmax", [0.97, 0.98, 0.99]) + runs("none", [0.24, 0.25, 0.3])
    assert row(records, "softmax")["accuracy (%)"].startswith("98.0 [")
    (section,) = task_sections(build_leaderboard(records, ("none",)))
    assert not any("Stuck" in note for note in section.notes)
