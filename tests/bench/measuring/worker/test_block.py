"""A worker's account of its rounds is held against the parent's clock."""

import math
from dataclasses import asdict, replace
from itertools import count
from types import SimpleNamespace

import pytest

from bench.core.facts import FRESH
from bench.core.record import Status
from bench.measuring.measure.stopping import Stopping
from bench.measuring.worker import block
from bench.measuring.worker.block import time_block
from bench.measuring.worker.launch import WorkerHung
from bench.measuring.worker.outcome import Outcome
from bench.measuring.worker.results import ROUNDS_BEGIN, ROUNDS_END, digest_of
from tests.bench.measuring.worker.fakes import cell, found

STOPPING = Stopping(min_rounds=3, max_rounds=3, budget_s=10.0)
COLUMNS = [cell(1), cell(2)]
EACH = ("warmup_s", "calls_per_set", "cpu_per_wall", "wrong")
"""Results of a worker with an entry for each member."""


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
        self.late_s = (0.0, 0.0)

    def do(self, job, on_message, may_stop, **request):
        self.requests.append(request)
        self.clock.now += 30.0  # builds and warms up
        self.clock.now += self.late_s[0]
        on_message({"step": ROUNDS_BEGIN})
        num_rounds = request["stopping"]["max_rounds"]
        for number in range(num_rounds):
            self.clock.now += self.round_s(number)
            on_message({"round": list(self.samples)})
        self.clock.now += self.late_s[1]
        on_message({"step": ROUNDS_END})
        self.clock.now += 30.0  # checks what it has timed
        changes = {name: values[len(self.requests) - 1] for name, values in self.results.items()}
        sent = {"digest": digest_of([list(self.samples)] * num_rounds)}
        return Outcome(status=Status.OK, result=found(**(sent | changes)), wall_s=1.0)


def timed(jobs, references=(1, None), stopping=STOPPING):
    return time_block(jobs, COLUMNS, references, stopping, 7, lambda words: None)


def test_what_the_worker_spends_outside_of_samples_is_accounted_for(clock):
    assert timed(FakeJobs(clock, lambda number: 7.0, outside_s=[15.0])).outcome.is_ok
    assert not timed(FakeJobs(clock, lambda number: 7.0)).outcome.is_ok


@pytest.mark.parametrize("samples", [(0.001, 0.0001), (2.0, 0.2)])
def test_a_clock_that_tells_another_time_is_an_error_of_the_block(clock, samples):
    outcome = timed(FakeJobs(clock, lambda number: 2.0, samples)).outcome
    assert outcome.status is Status.ERROR and outcome.result is None
    assert "the rounds lasted 6 s, and" in outcome.reason


@pytest.mark.parametrize("round_s", [2e-3, 2.0, 2e3])
@pytest.mark.parametrize("times", [0.75, 1.25])
def test_however_short_the_rounds_a_clock_is_held_against_the_parents(clock, round_s, times):
    for told_s, is_true in ((round_s, True), (times * round_s, False)):
        jobs = FakeJobs(clock, lambda number: round_s, (told_s, 0.0001 * told_s))
        assert timed(jobs).outcome.is_ok == is_true


@pytest.mark.parametrize("late_s", [(5.0, 0.0), (0.0, 5.0), (5.0, 7.0)])
def test_a_parent_that_hears_late_believes_what_is_true(clock, late_s):
    # It reads its clock when it hears; the worker's time goes on until it is told so.
    jobs = FakeJobs(clock, lambda number: 0.01, (0.0099, 0.00001), outside_s=[sum(late_s)])
    jobs.results["waited_s"] = [sum(late_s)]
    jobs.late_s = late_s
    assert timed(jobs).outcome.is_ok


@pytest.mark.parametrize("cache", ["warm", "cold"])
def test_what_a_cards_clock_leaves_out_is_no_fault(clock, cache):
    columns = [
        replace(one, device="cuda:0", workload=replace(one.workload, cache=cache))
        for one in COLUMNS
    ]
    # 11 calls of 20 µs each, and 80 µs around each reading.
    round_s = 11 * 20e-6 + (11 if cache == "cold" else 2) * 80e-6
    for some, is_true in ((columns, True), (COLUMNS, False)):
        jobs = FakeJobs(clock, lambda number: round_s, (20e-6, 20e-6))
        found = time_block(jobs, some, (1, None), STOPPING, 7, lambda words: None)
        assert found.outcome.is_ok == is_true


@pytest.mark.parametrize("sample", [0.0, -1.0, 1e-13, 2e9, math.nan, math.inf])
def test_a_sample_that_is_no_time_is_an_error_of_the_block(clock, sample):
    outcome = timed(FakeJobs(clock, lambda number: 2.0, (1.0, sample))).outcome
    assert outcome.status is Status.ERROR
    assert f"a sample of the rounds lasted {sample:g} s by" in outcome.reason


def test_rounds_that_the_worker_did_not_send_are_an_error_of_the_block(clock):
    sent = {"num_rounds": [2], "digest": [digest_of([[1.0, 0.1]] * 2)]}
    outcome = timed(FakeJobs(clock, lambda number: 2.0, **sent)).outcome
    assert outcome.status is Status.ERROR
    assert "3 rounds arrived, and they are not the 2 that were timed" in outcome.reason


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
    assert rounds.outcome.found.load == loads[0] and rounds.outcome.found.is_noisy
    assert rounds.outcome.found.warmup_s == ((0.5, 0.5), (0.25, 0.25))
    assert [request["order_seed"] for request in jobs.requests] == [7, 8]
    share = asdict(stopping.of_one_process)
    assert all(request["stopping"] == share for request in jobs.requests)


@pytest.mark.parametrize("others", ["precise", "rounds", "budget"])
def test_rounds_of_several_processes_are_precise_if_all_are_and_cut_short_if_one_is(clock, others):
    stopping = Stopping(min_rounds=4, max_rounds=4, num_processes=2)
    for reasons, said in (([others, "precise"], others), ([others, "interrupted"], "interrupted")):
        jobs = FakeJobs(clock, lambda number: 2.0, stop_reason=reasons)
        assert timed(jobs, stopping=stopping).outcome.found.stop_reason == said


def test_rounds_are_worth_keeping_once_all_processes_together_have_the_fewest(clock):
    class Asked(FakeJobs):
        may_stop = ()

        def do(self, job, on_message, may_stop, **request):
            def told(message):
                on_message(message)
                self.may_stop += (may_stop(),) * ("round" in message)

            return super().do(job, told, may_stop, **request)

    jobs = Asked(clock, lambda number: 2.0)
    timed(jobs, stopping=Stopping(min_rounds=4, max_rounds=4, num_processes=2))
    assert jobs.may_stop == (False, False, False, True)


def test_ctrl_c_while_a_fresh_process_is_timed_begins_no_further_process(clock, monkeypatch):
    monkeypatch.setattr(block, "is_foreign", lambda cell: cell == COLUMNS[0])

    def fresh_s(jobs, reference, stopping):
        jobs.interrupt = SimpleNamespace(is_asked=bool(jobs.requests))

    monkeypatch.setattr(block, "_fresh_s", fresh_s)
    stopping = Stopping(min_rounds=4, max_rounds=4, num_processes=2)
    jobs = FakeJobs(clock, lambda number: 2.0)
    rounds = timed(jobs, stopping=stopping)
    assert rounds.outcome.is_ok and len(jobs.requests) == 1 and len(rounds.samples) == 2


@pytest.mark.parametrize(
    "pace, of_plugin, ratio",
    [
        (lambda turn: 1.0, 1.0, 1.0),
        (lambda turn: 1.0, 2.0, 2.0),
        (lambda turn: 1.0, 0.5, 0.5),
        (lambda turn: 2.0 ** (turn > 2), 1.0, 1.0),  # of five turns, the fresh ones are 0, 2, 4
        (lambda turn: 2.0 ** (turn > 2), 2.0, 2.0),
    ],
)
def test_a_reference_that_others_change_is_told_from_a_machine_that_changes(
    clock, monkeypatch, pace, of_plugin, ratio
):
    monkeypatch.setattr(block, "is_foreign", lambda cell: cell == COLUMNS[0])
    turns = count()

    class InTurns(FakeJobs):
        def do(self, job, on_message, may_stop, **request):
            seconds = pace(next(turns))
            is_shared = len(request["cells"]) == 2
            reference_s = seconds * (of_plugin if is_shared else 1.0)
            self.samples = (seconds, reference_s / 10)[-len(request["cells"]) :]
            calls = (1, 10) if is_shared else (10,)
            self.round_s = lambda number: sum(map(math.prod, zip(calls, self.samples, strict=True)))
            done = super().do(job, on_message, may_stop, **request)
            cut = {name: getattr(done.result, name)[: len(calls)] for name in EACH}
            return replace(done, result=replace(done.result, **cut | {"calls_per_sample": calls}))

    jobs = InTurns(clock, None)
    stopping = Stopping(min_rounds=4, max_rounds=4, num_processes=2)
    assert timed(jobs, stopping=stopping).outcome.found.load[FRESH] == pytest.approx(ratio)
    assert [len(request["cells"]) for request in jobs.requests] == [1, 2, 1, 2, 1]
