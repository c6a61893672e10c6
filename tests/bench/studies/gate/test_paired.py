from pathlib import Path

import pytest

from bench.studies.gate import paired
from bench.studies.gate.paired import Effort, compare
from bench.studies.gate.verdict import GateVerdict, confidence_tail
from tests.bench.studies.gate.fakes import FakeJobs, died, timed
from tests.records import kernel_cell

CELL = kernel_cell("nala")
EFFORT = Effort(threshold=0.03, num_forks=4, budget_s=10.0)


@pytest.fixture
def clock(monkeypatch):
    """Every look at the clock finds it a second later."""
    seconds = iter(range(1000))
    monkeypatch.setattr(paired, "now_s", lambda: float(next(seconds)))


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
    assert len(jobs.asked) == len(result.forks) == 4 + 2 * 9  # two more a second, for ten seconds
    fewer, _ = run(lambda fork: [1.0, 1.06] if fork % 2 else [1.06, 1.0], budget_s=0.0)
    assert len(fewer.forks) == 4


def test_more_forks_can_settle_what_was_unsure(clock):
    result, _ = run(lambda fork: [1.0, 1.5] if fork < 2 else [1.0, 1.0, 1.0], budget_s=100.0)
    assert result.verdict is GateVerdict.SAME
    assert len(result.forks) > 4


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


def test_the_seconds_of_a_call_are_those_of_the_current_side(clock):
    result, _ = run(lambda fork: [2.0, 2.0, 2.0])
    assert result.latency_s == 0.01
