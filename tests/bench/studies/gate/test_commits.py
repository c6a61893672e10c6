import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.core.places import CHECKOUT
from bench.measuring.sharing.devices import DeviceLock
from bench.studies.gate import commits
from bench.studies.gate.commits import Effort, PairedComparison, compare, compare_commits
from bench.studies.gate.rows import GateVerdict, confidence_tail, exit_code
from tests.bench.studies.gate.fakes import BASE, OBSERVED, TRIAL, FakeJobs, died, ok, timed, trained
from tests.records import kernel_cell, task_cell

CELL = kernel_cell("nala")


@pytest.fixture
def clock(monkeypatch):
    """Every look at the clock finds it a second later."""
    seconds = iter(range(1000))
    monkeypatch.setattr(commits, "now_s", lambda: float(next(seconds)))


def run(ratios_of_fork, **changes):
    """Compare with forks whose rounds have the given ratios, by the number of the fork."""

    def answer(job, request, hear):
        ratios = ratios_of_fork(request["seed"])
        return ratios if not isinstance(ratios, list) else timed(hear, ratios)

    jobs = FakeJobs(answer)
    effort = Effort(**({"threshold": 0.03, "num_forks": 4, "budget_s": 10.0} | changes))
    result = compare(CELL, CELL, Path("/base"), jobs, effort, tail=confidence_tail(1))
    return result, jobs


@pytest.mark.parametrize(
    ("ratio", "verdict"),
    [(1.0, GateVerdict.SAME), (1.2, GateVerdict.SLOWER), (0.8, GateVerdict.FASTER)],
)
def test_a_clear_case_takes_the_planned_forks_and_no_more(clock, ratio, verdict):
    result, jobs = run(lambda fork: [ratio, ratio * 1.001, ratio * 0.999])
    assert result.verdict is verdict
    assert result.interval.median == pytest.approx(ratio)
    assert [job for job, _ in jobs.asked] == ["paired_rounds"] * 4
    assert [request["seed"] for _, request in jobs.asked] == [0, 1, 2, 3]


def test_what_is_unsure_gets_more_forks_until_the_budget_ends(clock):
    result, jobs = run(lambda fork: [1.0, 1.06] if fork % 2 else [1.06, 1.0])
    assert result.verdict is GateVerdict.UNSURE
    assert len(jobs.asked) == 4 + 2 * 9  # two more a second, for ten seconds
    _, fewer = run(lambda fork: [1.0, 1.06] if fork % 2 else [1.06, 1.0], budget_s=0.0)
    assert len(fewer.asked) == 4


def test_more_forks_can_settle_what_was_unsure(clock):
    result, jobs = run(lambda fork: [1.0, 1.5] if fork < 2 else [1.0, 1.0, 1.0], budget_s=100.0)
    assert result.verdict is GateVerdict.SAME
    assert len(jobs.asked) > 4


def test_a_worker_that_dies_between_two_sides_ends_as_a_verdict_with_its_reason(clock):
    result, jobs = run(lambda fork: [1.0] if fork < 2 else died())
    assert result.verdict is GateVerdict.INCOMPARABLE
    assert result.interval is None and "SIGSEGV" in result.reason
    assert len(jobs.asked) == 3


def test_both_sides_and_the_bases_folder_reach_the_worker(clock):
    _, jobs = run(lambda fork: [1.0])
    request = jobs.asked[0][1]
    assert request["base"] == request["current"] == CELL.to_dict()
    assert request["root"] == "/base" and request["repeat_every"] is None


EFFORT = Effort(num_forks=2, budget_s=0.0)


@pytest.fixture(autouse=True)
def in_base(monkeypatch):
    """Settings of the base's entry, of which there is only one; by default its name."""
    found: list[dict[str, Any] | None] = [{"mechanism": "nala"}]
    monkeypatch.setattr(commits, "base_entry", lambda base, label: found[-1])
    return found


def compared(answer, cells=(CELL,)):
    jobs = FakeJobs(answer)
    rows = list(compare_commits(cells, BASE, jobs, EFFORT, 0.01, say=lambda words: None))
    return rows, jobs


def answering(*, base=None, current=None, paired=None):
    """A trial's outcome for each side, and the ratio of every round."""

    def answer(job, request, hear):
        if job == "paired_rounds":
            found = paired(request) if callable(paired) else paired
            return timed(hear, [1.0] * 5) if found is None else found
        is_base = request["root"] is not None
        return (base if is_base else current) or ok(TRIAL)

    return answer


def test_a_tree_against_itself_is_the_same_in_every_channel():
    rows, _ = compared(answering())
    assert {row.verdict for row in rows} == {GateVerdict.SAME}
    assert {row.channel for row in rows} == {*OBSERVED, "latency"}
    assert exit_code(rows) == 0


def test_what_the_command_line_sets_holds_for_the_base_too(in_base):
    in_base.append({"mechanism": "nala", "power": 3})
    default, given = {"tau": 0.5, "key_power": 3.0}, {"tau": 0.5, "key_power": 5.0}
    for settings, there in ((default, {"power": 3}), (given, {"power": 3, "key_power": 5.0})):
        _, jobs = compared(answering(), (kernel_cell("nala", hyperparameters=settings),))
        assert jobs.asked[0][1]["cell"]["hyperparameters"] == there


def test_the_base_is_set_as_its_own_yaml_says(in_base):
    in_base.append({"mechanism": "nala_old", "power": 3})
    _, jobs = compared(answering())
    there = jobs.asked[0][1]
    assert there["root"] == str(BASE.root)
    assert there["cell"]["mechanism"] == "nala_old"
    assert there["cell"]["hyperparameters"] == {"power": 3}
    assert jobs.asked[1][1]["cell"] == CELL.to_dict()
    timed_together = jobs.asked[2][1]
    assert timed_together["base"] == there["cell"] and timed_together["current"] == CELL.to_dict()


def test_an_entry_that_the_base_lacks_is_new_and_nothing_is_measured(in_base):
    in_base.append(None)
    rows, jobs = compared(answering())
    assert [(row.verdict, row.channel) for row in rows] == [(GateVerdict.NEW, "latency")]
    assert jobs.asked == [] and exit_code(rows) == 0


@pytest.mark.parametrize(
    ("base", "current", "verdict", "words"),
    [
        (
            died("ImportError: no module named attentions_of_base.nala"),
            None,
            GateVerdict.INCOMPARABLE,
            r"the base cannot run it.*ImportError",
        ),
        (None, died("RuntimeError: a bug"), GateVerdict.BROKEN, "a bug"),
        (died(), died(), GateVerdict.INCOMPARABLE, ""),
    ],
    ids=["base", "this tree", "both"],
)
def test_what_a_side_cannot_run_is_a_failure_where_the_base_could(base, current, verdict, words):
    (row,), _ = compared(answering(base=base, current=current))
    assert row.verdict is verdict and re.search(words, row.reason)
    assert exit_code([row]) == (verdict is GateVerdict.BROKEN)


def test_a_growth_and_a_time_are_rows_of_their_own():
    rows, _ = compared(answering(current=ok(replace(TRIAL, num_operators=8))))
    by_channel = {row.channel: row for row in rows}
    assert by_channel["num_operators"].verdict is GateVerdict.MORE
    assert by_channel["latency"].verdict is GateVerdict.SAME


@pytest.mark.parametrize(
    ("dies_alone", "verdict", "words"),
    [
        (True, GateVerdict.BROKEN, "this tree cannot be timed"),
        (False, GateVerdict.INCOMPARABLE, "SIGSEGV"),
    ],
)
def test_a_worker_that_dies_while_both_are_timed_is_held_against_the_side_that_dies_alone(
    dies_alone, verdict, words
):
    def paired(request):
        return died() if dies_alone or request["root"] == str(BASE.root) else None

    rows, jobs = compared(answering(paired=paired))
    (time,) = (row for row in rows if row.channel == "latency")
    assert time.verdict is verdict and words in time.reason
    assert jobs.asked[-1][1]["root"] == str(CHECKOUT)  # this tree against itself


@pytest.mark.parametrize(
    ("task", "base", "current", "unit", "channel"),
    [
        ("recall", 0.95, 0.94, "", "accuracy"),
        ("bytes", 2.5, 2.9, "bits per byte", "loss"),
    ],
)
def test_a_worse_score_fails_without_any_timing(monkeypatch, task, base, current, unit, channel):
    monkeypatch.setattr(commits, "alone_on", None)  # no device is waited for

    def answer(job, request, hear):
        assert job == "train"
        return trained(base if request["root"] is not None else current, unit=unit)

    rows, _ = compared(answer, cells=(task_cell("nala", task),))
    assert [(row.channel, row.verdict) for row in rows] == [(channel, GateVerdict.MORE)]


@pytest.mark.parametrize("num_cells", [1, 100])
def test_the_chance_of_a_false_alarm_is_shared_among_the_cells_that_are_timed(
    monkeypatch, num_cells
):
    tails = []

    def fake_compare(base, current, root, jobs, effort, *, tail):
        tails.append(tail)
        return PairedComparison(verdict=GateVerdict.INCOMPARABLE)

    monkeypatch.setattr(commits, "compare", fake_compare)
    cells = [kernel_cell("nala", seq_len=64 + i) for i in range(num_cells)]

    def answer(job, request, hear):
        return trained(0.5) if job == "train" else ok(TRIAL)

    compared(answer, cells=[*cells, task_cell("nala")])
    assert set(tails) == {confidence_tail(num_cells, 0.01)}
    assert confidence_tail(num_cells, 0.01) == pytest.approx(0.01 / num_cells)


def test_a_device_that_a_sweep_times_on_is_waited_for_and_the_wait_is_told(monkeypatch):
    sweeps = DeviceLock("cpu", shared=False)
    assert sweeps.try_take()
    jobs, said = FakeJobs(answering()), []
    monkeypatch.setattr(jobs.interrupt, "pause", lambda seconds: sweeps.release())
    cells = (CELL, CELL)
    rows = list(compare_commits(cells, BASE, jobs, EFFORT, 0.01, say=said.append))
    assert {row.verdict for row in rows} == {GateVerdict.SAME}
    assert [words.partition(",")[0] for words in said] == [
        "waiting for cpu",
        f"[1/2] {CELL.describe()}",
        "[2/2",
    ]
    assert sweeps.try_take(), "it was kept"
    sweeps.release()
