"""What a worker says of its rounds is held against the parent's clock."""

import math
from dataclasses import asdict

import pytest

from bench.measure.stopping import Stopping
from bench.record import Status
from bench.worker import block
from bench.worker.block import time_block
from bench.worker.launch import WorkerHung
from bench.worker.outcome import Outcome
from bench.worker.results import ROUNDS_BEGIN, ROUNDS_END
from tests.bench.worker.fakes import cell, found

STOPPING = Stopping(min_rounds=3, max_rounds=3, budget_s=10.0)
COLUMNS = [cell(1), cell(2)]


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(block, "now_s", clock)
    return clock


class FakeJobs:
    """Workers that take rounds as they are told, on a clock that they may lie about."""

    timeout_s = 60.0

    class interrupt:
        is_asked = False

    def __init__(self, clock, round_s, samples=(1.0, 0.1), **results):
        self.clock, self.round_s, self.samples, self.results = clock, round_s, samples, results
        self.requests = []

    def do(self, job, hear, may_stop, **request):
        self.requests.append(request)
        self.clock.now += 30.0  # builds and warms up
        hear({"step": ROUNDS_BEGIN})
        for number in range(request["stopping"]["max_rounds"]):
            self.clock.now += self.round_s(number)
            hear({"round": list(self.samples)})
        hear({"step": ROUNDS_END})
        self.clock.now += 30.0  # checks what it has timed
        changes = {name: values[len(self.requests) - 1] for name, values in self.results.items()}
        return Outcome(status=Status.OK, result=found(**changes), wall_s=1.0)


def timed(jobs, references=(1, None), stopping=STOPPING):
    return time_block(jobs, COLUMNS, references, stopping, 7, lambda words: None)


def test_rounds_that_last_as_long_as_the_worker_says_are_believed(clock):
    rounds = timed(FakeJobs(clock, lambda number: 2.3))
    assert rounds.outcome.is_ok and rounds.samples == [[1.0, 0.1]] * 3


def test_what_the_worker_spends_outside_of_samples_is_accounted_for(clock):
    assert timed(FakeJobs(clock, lambda number: 7.0, outside_s=[15.0])).outcome.is_ok
    assert not timed(FakeJobs(clock, lambda number: 7.0)).outcome.is_ok


@pytest.mark.parametrize("samples", [(0.001, 0.0001), (2.0, 0.2)])
def test_a_clock_that_tells_another_time_is_an_error_of_the_block(clock, samples):
    outcome = timed(FakeJobs(clock, lambda number: 2.0, samples)).outcome
    assert outcome.status is Status.ERROR and outcome.result is None
    assert "the rounds lasted 6.0 s, and" in outcome.reason


def test_short_rounds_may_be_heard_a_little_late(clock):
    jobs = FakeJobs(clock, lambda number: 0.15, (0.01, 0.001))
    assert timed(jobs).outcome.is_ok


@pytest.mark.parametrize("sample", [0.0, -1.0, math.nan, math.inf])
def test_a_sample_that_is_no_time_is_an_error_of_the_block(clock, sample):
    outcome = timed(FakeJobs(clock, lambda number: 2.0, (1.0, sample))).outcome
    assert outcome.status is Status.ERROR and "a sample of the rounds" in outcome.reason


def test_rounds_that_do_not_end_are_ended(clock):
    # Twice 3 rounds of 2 s, 10 s of budget for each of two members, and 60 s.
    jobs = FakeJobs(clock, lambda number: 2.0 ** (number + 1))
    many = Stopping(min_rounds=3, max_rounds=50, budget_s=10.0)
    with pytest.raises(WorkerHung, match="the rounds did not end within 92 s"):
        timed(jobs, stopping=many)
    assert clock.now < 300


def test_a_member_that_is_wrong_in_one_process_is_wrong_and_no_yardstick(clock):
    stopping = Stopping(min_rounds=4, max_rounds=4, num_processes=2)
    jobs = FakeJobs(clock, lambda number: 2.0, wrong=[(None, None), (None, "off by 3")])
    rounds = timed(jobs, stopping=stopping)
    assert rounds.outcome.found.wrong == (None, "off by 3")
    assert rounds.references == [None, None]
    assert rounds.processes == [0, 0, 1, 1]


def test_of_several_processes_the_one_with_the_most_foreign_load_counts(clock):
    stopping = Stopping(min_rounds=4, max_rounds=4, num_processes=2)
    loads = [{"foreign_cores": 0.9}, {"foreign_cores": 0.1}]
    jobs = FakeJobs(clock, lambda number: 2.0, load=loads, is_noisy=[True, False])
    rounds = timed(jobs, stopping=stopping)
    assert rounds.foreign_cores == 0.9 and rounds.outcome.found.is_noisy
    assert rounds.outcome.found.warmup_s == ((0.5, 0.5), (0.25, 0.25))
    assert [request["order_seed"] for request in jobs.requests] == [7, 8]
    share = asdict(stopping.of_one_process)
    assert all(request["stopping"] == share for request in jobs.requests)
