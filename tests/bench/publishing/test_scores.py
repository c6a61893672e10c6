import base64
import zlib
from dataclasses import dataclass, fields, replace

import numpy as np
import pytest

from bench.core.record import Quality
from bench.publishing.leaderboard import build_leaderboard
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
