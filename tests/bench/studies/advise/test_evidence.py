"""Which rows are answers, by what was proven, scored and timed of them."""

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from attentions.catalogue import catalogue
from bench.core.proofs import Badge, BadgeStatus, Proofs
from bench.core.statistics import median_interval
from bench.publishing.leaderboard import build_leaderboard
from bench.studies.advise.evidence import (
    DEARER,
    NOT_COMPARED,
    OPEN,
    TIED,
    Candidate,
    Cost,
    candidates,
    cost_at,
    is_flat,
    needs,
    rows_of,
    task_of,
    timed,
    told_apart,
    why_no_score,
)
from tests.records import block_records, changed, kernel_cell, ok_record, speed, task_records


def with_task(record, **changes):
    work = replace(record.cell.task, **changes)
    return replace(record, cell=replace(record.cell, workload=work))


ALIKE = frozenset(["rounds"])


def priced(entry, low, seconds, high, rounds=ALIKE):
    cost = Cost(seconds=seconds, low=low, high=high, rounds=rounds)
    return Candidate(entry=entry, mechanism=entry, cost=cost)


def test_costs_of_one_process_are_told_by_their_intervals_and_of_two_by_a_quarter():
    rows = [
        priced("dearer", 1.21, 1.25, 1.3),
        priced("meets", 1.2, 1.3, 1.5),
        priced("cheapest", 0.9, 1.0, 1.2),
        priced("other process", 1.49, 1.5, 1.51, frozenset(["other"])),
        priced("much dearer", 1.51, 1.52, 1.53, frozenset(["other"])),
        replace(priced("short", 0.1, 0.2, 0.3), why_not="falls short"),
    ]
    assert told_apart(rows) == {
        "cheapest": TIED,
        "meets": TIED,
        "dearer": DEARER,
        "other process": NOT_COMPARED,
        "much dearer": DEARER,
        "short": "falls short",
    }


def test_a_row_without_a_time_is_not_tied_and_a_shorter_length_is_a_lower_bound():
    least = Cost(1.6, 1.55, 1.7, length=1024)
    rows = [
        priced("cheapest", 0.9, 1.0, 1.2),
        Candidate(entry="unknown", mechanism="a"),
        Candidate(entry="bounded", mechanism="a", least=least),
        Candidate(entry="near", mechanism="a", least=least._replace(low=1.4)),
    ]
    found = {"cheapest": TIED, "bounded": DEARER, "near": NOT_COMPARED, "unknown": NOT_COMPARED}
    assert told_apart(rows) == found
    assert {*told_apart(rows[1:]).values()} == {NOT_COMPARED}


@pytest.mark.parametrize(
    ("mode", "claims"),
    [
        ("forward", []),
        ("prefill", ["recurrent"]),
        ("decode", ["recurrent"]),
        *((mode, ["gradients"]) for mode in ("backward", "forward_backward", "train_step")),
    ],
)
def test_a_mode_needs_its_own_proofs(mode, claims):
    assert needs(mode, causal=False, dtype="float32") == ["reference", *claims]
    wide = needs(mode, causal=True, dtype="bfloat16")
    assert wide == ["reference", "causal", *claims, "precision"]


@pytest.mark.parametrize("unit", ["", "bits per byte"])
def test_a_score_is_reached_with_the_whole_interval_and_open_within_it(unit):
    runs = [changed(record, unit=unit) for record in task_records(("linear",))]
    (table,) = build_leaderboard(runs).tasks
    (score,) = table.scores
    worst, best = score.interval[:: -1 if unit else 1]
    better = (best - worst) / 10

    def why(least):
        question: Any = SimpleNamespace(table=table, least=least)
        return why_no_score(score, question)

    assert why(worst - better) == why(worst) == ""
    assert why(worst + better) == why(best) == OPEN
    assert why(best + better) == "falls short"


def test_the_best_are_those_that_no_row_is_ahead_of_and_a_forbidding_mark_is_a_reason():
    runs = task_records(("linear", "performer"))
    (table,) = build_leaderboard(runs).tasks
    question: Any = SimpleNamespace(table=table, least=None)
    reasons = {score.entry: why_no_score(score, question) for score in table.scores}
    assert reasons == {"linear": "", "performer": "another row is ahead"}
    leaky = [changed(record, causal=True, leaks_future=True) for record in runs]
    (table,) = build_leaderboard(leaky).tasks
    question = SimpleNamespace(table=table, least=0.0)
    assert {why_no_score(s, question) for s in table.scores} == {"not ranked: leaks the future"}
    # Within a budget of steps a run need not have settled: that is not the reason.
    edge = [changed(with_task(record, is_at_edge=True), ended="maximum") for record in runs]
    (table,) = build_leaderboard(edge, within_budget=True).tasks
    question = SimpleNamespace(table=table, least=0.0)
    at_edge = "not ranked: rate at the edge of the search"
    assert {why_no_score(s, question) for s in table.scores} == {at_edge}


@pytest.mark.parametrize("source", ["", "0" * 16])
@pytest.mark.parametrize("status", BadgeStatus)
def test_only_a_claim_that_passed_is_proven_and_that_of_another_source_is_said_to_be_old(
    source, status
):
    badges = {"reference": Badge(claim="reference", status=status)}
    proofs = {"linear": Proofs(badges=badges, source=source)}
    (module,) = (entry.module for entry in catalogue() if entry.name == "linear")
    board = build_leaderboard(block_records(("softmax", "linear"), seq_len=256))
    question = asked(256, timed=timed(board, asked(256)))
    found = {row.entry: row for row in candidates(question, proofs, {"linear": module})}
    lacking = "" if status is BadgeStatus.PASSED else "not proven: reference"
    old = " (of an earlier source)" if source else ""
    assert (found["linear"].proof, found["linear"].why_not) == (
        (lacking or "reference") + old,
        lacking,
    )
    assert found["softmax"].why_not == "not proven: reference"


def scored(entry, **known):
    """A row with a score by seed, s0 for seed 0, and a run of a minute."""
    by_seed = {int(seed[1:]): score for seed, score in known.items()}
    score: Any = SimpleNamespace(runs=SimpleNamespace(known=by_seed), by_seed=by_seed.items())
    score.records = [SimpleNamespace(cost_s={"total": 60.0})]
    return Candidate(entry=entry, mechanism=entry, score=score, why_not=OPEN)


def asked(seq_len, **changes):
    own = SimpleNamespace(dtype="float32", batch_size=1)
    usual = {"asked": own, "table": None, "mode": "forward", "causal": False}
    return SimpleNamespace(seq_len=seq_len, **usual | changes)


def test_costs_are_of_a_setting_that_covers_the_length_and_of_rows_that_may_be_ranked():
    short = [r for n in (256, 512) for r in block_records(("softmax", "nala", "linear"), seq_len=n)]
    long = [
        replace(r, cell=replace(r.cell, num_threads=2), started_at="2030-01-01T00:00:00Z")
        for n in (256, 4096)
        for r in block_records(("softmax", "nala", "none"), seq_len=n)
    ]
    more = ("softmax", "nala", "linear", "flatten")
    shared = [r for n in (256, 4096) for r in block_records(more, seq_len=n, num_kv_heads=2)]
    long = [changed(r, leaks_future=r.cell.entry == "nala") for r in long]
    board = build_leaderboard([*short, *long, *shared], ("none",))
    found = timed(board, asked(1024))
    assert found.lengths == [256, 4096] and found.by_entry.keys() == {"softmax"}
    assert timed(board, asked(300)).by_entry.keys() == {"softmax", "nala", "linear"}
    assert timed(board, asked(300, causal=True)).setting is None


def test_a_fitted_cost_is_compared_by_its_interval_and_a_measured_one_by_its_rounds():
    records = block_records(("linear", "nala", "flatten"), seq_len=1024)
    rows = [
        Candidate(entry=one.cell.entry, mechanism="a", cost=Cost(i, 0, 9, own, ALIKE))
        for i, one in enumerate(records)
        for own in [changed(one, rounds_key="r")]
    ]
    assert [*told_apart(rows).values()] == [TIED, DEARER, DEARER]
    fitted = [replace(row, cost=row.cost and row.cost._replace(record=None)) for row in rows]
    assert {*told_apart(fitted).values()} == {TIED}, "by intervals, which overlap"


def test_a_leader_that_scores_less_than_a_row_that_is_behind_is_not_settled():
    runs = task_records(("linear", "nala", "polaformer"), seeds=range(5))
    wide = [0.8, 0.99, 0.99, 0.85, 0.99]
    scores = {"linear": [0.97] * 5, "nala": wide, "polaformer": [0.95] * 5}
    records = [changed(r, accuracy=scores[r.cell.entry][r.cell.task.seed]) for r in runs]
    (table,) = build_leaderboard(records).tasks
    question: Any = SimpleNamespace(table=table, least=None)
    reasons = {score.entry: why_no_score(score, question) for score in table.scores}
    assert reasons == {"linear": "", "nala": OPEN, "polaformer": "another row is ahead"}


def test_a_row_is_flat_where_neither_its_state_nor_its_time_grows():
    def at(*states, factor=1.0):
        pairs = enumerate(zip((64, 128), states, strict=True))
        samples = [[factor**i] * 7 for i in range(2)]
        return {
            n: ok_record(kernel_cell("gla", seq_len=n), speed(samples[i], state_bytes=state))
            for i, (n, state) in pairs
        }

    assert is_flat(at(9, 9)) and is_flat(at(9, 9, factor=1.2))
    assert not is_flat(at(9, 10)) and not is_flat(at(9, 9, factor=1.3))
    assert not is_flat(at(None, None)) and not is_flat({64: at(9, 9)[64]})


def test_the_table_with_the_most_seeds_is_asked_and_controls_are_no_rows():
    few = [with_task(r, settings={"num_steps": 9}) for r in task_records(seeds=(0,))]
    tasks = build_leaderboard([*few, *task_records(("linear", "none"))], ("none",)).tasks
    table = task_of("recall", {}, tasks)
    assert table.num_seeds == 3 and rows_of(table).keys() == {"linear"}
    assert task_of("recall", {"num_steps": 9}, tasks).num_seeds == 1


def test_two_seeds_reach_nothing():
    (table,) = build_leaderboard(task_records(("linear",), seeds=range(2))).tasks
    question: Any = SimpleNamespace(table=table, least=0.1)
    assert why_no_score(table.scores[0], question) == "fewer than 3 seeds"


def test_a_measured_length_costs_its_median_and_another_nothing_that_is_known():
    samples = [7.0, 1.0, 2.0, 6.0, 3.0, 5.0, 4.0]
    record = ok_record(kernel_cell("nala", seq_len=1024), speed(samples))
    cost = cost_at({1024: record}, 1024)
    assert cost is not None and cost.record is record
    assert (cost.seconds, (cost.low, cost.high)) == (4.0, median_interval(samples))
    few = cost_at({1024: ok_record(record.cell, speed(samples[:5]))}, 1024)
    assert few is not None and (few.low, few.high) == (0.0, math.inf)
    assert cost_at({1024: record}, 512) is None


def test_the_fastest_implementation_is_named_also_from_rounds_of_another_setting():
    shape = {"seq_len": 512, "num_heads": 8}
    records = [
        ok_record(kernel_cell(entry, **shape), speed([s] * 9, [0.4] * 9, rounds_key="r"))
        for entry, s in (("softmax", 0.4), ("gla", 0.3), ("gla_fla", 0.2), ("gla_ort", 0.1))
    ]
    records += [r for n in (256, 512) for r in block_records(("softmax", "nala"), seq_len=n)]
    found = timed(build_leaderboard(records), asked(256))
    assert found.setting.workload.num_heads == 4
    (entry, (other, length)) = found.faster.popitem()
    assert (entry, other.entry, length) == ("gla", "gla_ort", 512) and round(other.ratio) == 3
