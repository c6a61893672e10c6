import base64
import zlib
from dataclasses import dataclass, fields, replace

import numpy as np
import pytest

from bench.core.record import Quality
from bench.publishing.leaderboard import build_leaderboard
from bench.publishing.task_tables import task_sections
from tests import records as made


@dataclass(frozen=True, kw_only=True)
class Told(Quality):
    """A quality that says what is known of its test examples."""

    score_error: float | None = None
    answers: str = ""
    test_set: str = ""
    answers_per_cluster: int | None = None


def trained(entry, *accuracies, **known):
    """One seed for each accuracy."""
    found = []
    for seed, accuracy in enumerate(accuracies):
        (record,) = made.task_records([entry], seeds=[seed])
        assert isinstance(record.result, Quality)
        usual = {f.name: getattr(record.result, f.name) for f in fields(record.result)}
        result = Told(**usual | {"accuracy": accuracy} | known)
        found.append(replace(record, result=result))
    return found


def task_of(*records):
    (found,) = build_leaderboard(list(records), ()).tasks
    return found


def packed(bits):
    return base64.b64encode(zlib.compress(np.packbits(bits).tobytes())).decode()


def score_of(*records):
    (found,) = task_of(*records).scores
    return found


def test_an_interval_over_seeds_that_agree_is_as_wide_as_the_test_examples_leave_it():
    found = score_of(*trained("softmax", 0.8, 0.8, 0.8, num_examples=1000)).interval
    assert found == pytest.approx((0.8 - 0.0249, 0.8 + 0.0249), abs=3e-4)
    said = score_of(*trained("softmax", 0.8, 0.8, 0.8, num_examples=1000, score_error=0.05))
    assert said.interval == pytest.approx((0.8 - 0.098, 0.8 + 0.098), abs=3e-4)


def test_rows_are_ranked_by_the_answers_that_differ_where_records_say_which_were_right():
    hard = (np.arange(2000) % 2).astype(np.uint8)
    better = hard.copy()
    better[:60:2] = 1
    told = []
    for entry, bits in (("softmax", better), ("nala", hard)):
        known = {"num_examples": 2000, "answers": packed(bits), "answers_per_cluster": 1}
        told.append((entry, float(bits.mean()), known))

    def places(**test_set):
        records = [
            record
            for entry, share, known in told
            for record in trained(entry, share, share, share, **known, test_set=test_set[entry])
        ]
        return [score.rank_words for score in task_of(*records).scores]

    assert places(softmax="a" * 16, nala="a" * 16) == ["1", "2"]
    assert places(softmax="a" * 16, nala="b" * 16) == ["1-2", "1-2"]


def test_seeds_at_one_rate_are_one_row_whether_the_rate_was_searched_for_all_of_them():
    records = []
    for record in trained("nala", 0.9, 0.8, 0.7):
        work = record.cell.task
        shared_rate = 0.003 if work.seed == 0 else None
        settings = {"learning_rate": 0.003}
        records.append(made.with_work(record, settings=settings, shared_rate=shared_rate))
    score = score_of(*records)
    assert [seed for seed, _ in score.by_seed] == [0, 1, 2] and score.num_missing == 0
    assert (score.entry, score.rate, score.is_searched) == ("nala", 0.003, False)
    assert score_of(records[0]).is_searched


def test_bits_have_no_error_of_a_share_and_the_fewest_come_first_whatever_they_are_called():
    bits = {"unit": "bits per byte", "num_examples": 10, "ended": "plateau"}
    records = [*trained("a", 0.5, 0.5, 0.5, **bits), *trained("b", 0.2, 0.3, 0.7, **bits)]
    records += trained("c", 0.1, 0.1, 0.1, **bits | {"ended": "maximum"})
    found = task_of(*records)
    assert [score.entry for score in found.scores] == ["b", "a", "c"], "what is not ranked is last"
    assert found.scores[1].interval == (0.5, 0.5)
    assert found.scores[0].centre == pytest.approx(0.4), "no median where seeds do not split"
    assert found.metric == "bits_per_byte"
    split = [*trained("a", *[0.9] * 5), *trained("b", *[0.99, 0.98] * 2, 0.3)]
    split = task_of(*split)
    assert [score.entry for score in split.scores] == ["b", "a"], "by the median that is shown"


def test_a_row_with_one_seed_that_forbids_a_rank_has_none_and_a_control_takes_no_place():
    records = [*trained("softmax", 0.9, 0.9), *trained("nala", 0.5, 0.5)]
    records[1] = made.changed(records[1], ended="maximum")
    board = build_leaderboard([*records, *trained("none", 0.99, 0.99)], ("none",))
    (task,) = board.tasks
    assert {score.entry: score.may_be_ranked for score in task.scores}["softmax"] is False
    lines = [*trained("softmax", 0.9, 0.9), *trained("nala", 0.5, 0.5)]
    (task,) = build_leaderboard([*lines, *trained("none", 0.99, 0.99)], ("none",)).tasks
    ranks = {score.entry: score.rank_words for score in task.scores}
    assert ranks == {"none": "control", "softmax": "1", "nala": "2"}


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


def test_one_seed_at_the_edge_or_collapsed_is_said_and_lengths_rise_by_number():
    records = trained("nala", 0.9, 0.8, 0.7, collapsed=False, longer={"1024": 0.5, "256": 0.6})
    work = replace(records[0].cell.task, is_at_edge=True)
    records[0] = replace(records[0], cell=replace(records[0].cell, workload=work))
    records[0] = made.changed(records[0], chance=0.3)
    records[1] = made.changed(records[1], collapsed=True, chance=0.2)
    records[2] = made.changed(records[2], chance=0.1)
    score = score_of(*records)
    assert (score.is_at_edge, score.num_collapsed, score.chance) == (True, 1, 0.2)
    assert [length for length, _ in score.longer] == [256, 1024]
