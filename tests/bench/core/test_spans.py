import base64
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.core.record import Quality
from bench.core.spans import at_height, height_of, span_of, span_words
from bench.publishing.conclusions import sentences
from bench.publishing.converged import by_steps
from bench.publishing.fronts import fronts
from bench.publishing.leaderboard import build_leaderboard
from bench.publishing.scores import score_words
from bench.publishing.sinks.view import view_of
from bench.publishing.task_tables import score_row, task_sections
from bench.publishing.versus import versus
from tests import records as made
from tests.bench.publishing.sweeps import config

RUNGS = (2, 4, 8, 16)
NUM = 100


def quality(*shares, seed=0, **more):
    """A model that answers these shares of a rung's examples, each a single answer, in full."""
    draw = np.random.default_rng(seed)
    bits = []
    for share in shares:
        own = np.arange(NUM) < round(share * NUM)
        bits.append(draw.permutation(own))
    right = np.concatenate(bits)
    packed = base64.b64encode(zlib.compress(np.packbits(right).tobytes())).decode()
    return Quality(
        accuracy=float(right.mean()),
        chance=0.01,
        guess="any",
        num_examples=len(right),
        num_parameters=1,
        answers=packed,
        rungs={str(rung): [NUM, NUM] for rung in RUNGS},
        rung_of="pairs",
        test_set="a" * 16,
        **more,
    )


def records(entry, *curves):
    found = []
    for seed, shares in enumerate(curves):
        (record,) = made.task_records([entry], seeds=[seed])
        work = replace(record.cell.task, shared_rate=0.003)
        cell = replace(record.cell, workload=work)
        found.append(replace(record, cell=cell, result=quality(*shares, seed=seed)))
    return found


def test_a_span_is_where_accuracy_falls_below_90_percent_on_a_logarithmic_scale():
    span = span_of(quality(1, 1, 0.8, 0.2))
    assert at_height(span.height, RUNGS) == pytest.approx(4 * 2**0.5)
    assert span_of(quality(0.5, 0.2, 0, 0)).height == 0
    assert span_of(quality(1, 1, 1, 1)).height == 1
    assert [span_words(h, RUNGS) for h in (0, 0.5, 1)] == ["under 2", "5.7", "over 16"]


def test_a_dip_under_a_solved_rung_is_named():
    assert span_of(quality(1, 0.7, 1, 0.2)).dips == (4,)


@given(st.lists(st.integers(0, NUM), min_size=4, max_size=4))
def test_the_values_of_the_examples_have_the_height_as_their_mean(counts):
    span = span_of(quality(*(count / NUM for count in counts)))
    assert span.values.mean() == pytest.approx(span.height)
    assert 0 <= span.height <= 1
    assert height_of(at_height(span.height, RUNGS), RUNGS) == pytest.approx(span.height)


def test_spans_of_three_seeds_have_ranks_and_ends_of_the_ladder_rank_as_such():
    every = [
        *records("softmax", (1, 1, 1, 1), (1, 1, 1, 1), (1, 1, 1, 1)),
        *records("linear", (1, 1, 0.7, 0.2), (1, 1, 0.72, 0.2), (1, 1, 0.71, 0.2)),
        *records("nala", (0.3, 0, 0, 0), (0.3, 0, 0, 0), (0.3, 0, 0, 0)),
    ]
    board = build_leaderboard(every)
    (task,) = board.tasks
    rows = {score.entry: score_row(score, task) for score in task.scores}
    assert [rows[name]["rank"] for name in ("softmax", "linear", "nala")] == ["1", "2", "3"]
    assert rows["nala"]["span (pairs)"].startswith("under 2")
    assert rows["softmax"]["span (pairs)"].startswith("over 16")
    assert rows["linear"]["8 (%)"] == "71.0"
    (section,) = task_sections(board)
    assert section.tables[1].rows, "neighbours"


def test_a_row_that_stays_below_the_ladder_has_no_interval():
    (task,) = build_leaderboard(records("nala", *3 * [(0.3, 0, 0, 0)])).tasks
    assert score_words(task.scores[0]) == "under 2"


def test_comparisons_fronts_and_dashboards_give_spans_and_not_heights():
    every = [
        *records("softmax", *3 * [(1, 1, 1, 1)]),
        *records("linear", (1, 1, 0.7, 0.2), (1, 1, 0.72, 0.2), (1, 1, 0.71, 0.2)),
    ]
    every = [replace(r, result=replace(r.result, state_bytes=1024)) for r in every]
    board = build_leaderboard(every)
    (verdict,) = versus(board, "softmax", "linear").verdicts
    assert (verdict.of, verdict.winner) == ("holds more", "softmax")
    assert verdict.words.startswith("over 16 vs. 5.") and "pairs" in verdict.words
    (front,) = fronts(board)
    assert front.points["softmax"] == (1024, 16)
    scores = view_of(every, made.SWEEP, config(Path())).scores
    assert scores["span/recall/softmax"] == 16 and 5 < scores["span/recall/linear"] < 6
    assert not by_steps(board.tasks)


def test_the_conclusion_says_what_each_row_holds_and_of_one_seed_no_order():
    def said(num_seeds):
        runs = [*records("softmax", *num_seeds * [(1, 1, 1, 1)])]
        runs += records("linear", *num_seeds * [(1, 1, 0.8, 0.2)])
        return sentences(build_leaderboard(runs, ("none",)))

    assert said(3) == (
        "On recall, over 3 seeds: softmax holds over 16 pairs, linear 5.7; "
        "1 of 1 pairs of rows are decided.",
    )
    (one,) = said(1)
    assert one == (
        "On recall, one seed: softmax holds over 16 pairs, linear 5.7; no order is claimed."
    )
