"""Before and after the turns of a member: new inputs, a look at what all share, a last check."""

import itertools
from dataclasses import replace
from functools import partial

import pytest
import torch

from bench.core.record import Status
from bench.measuring.measure import load
from bench.measuring.measure.state import restore, snapshot
from bench.measuring.oracle.oracle import Incorrect
from bench.measuring.worker import rounds as module
from bench.measuring.worker import turns
from bench.measuring.worker.outcome import JobFailed
from bench.measuring.worker.results import ROUNDS_BEGIN, ROUNDS_END
from tests.bench.measuring.worker.fakes import (
    Channel,
    FakeSubject,
    cell,
    take_rounds,
    timed_by,
)

SAMPLE_S = 0.25
A, B = cell(entry="a"), cell(entry="b")
SNAPSHOT = load.snapshot()


class Time:
    """A clock that only samples and what is told to take time move; the CPU is twice as busy."""

    def __init__(self):
        self.now = 50.0

    def time_calls(self, call, count):
        for _ in range(count):
            call()
        self.now += SAMPLE_S
        return SAMPLE_S


@pytest.fixture
def time(monkeypatch):
    time = Time()
    monkeypatch.setattr(turns, "now_s", lambda: time.now)
    monkeypatch.setattr(turns, "cpu_s", lambda: 2 * time.now)
    monkeypatch.setattr(module, "device_named", lambda name: timed_by(time))
    return time


@pytest.fixture
def subjects(monkeypatch, time):
    """The subjects of entries ``a`` and ``b``, and a state that is put back."""
    subjects = {"a": FakeSubject(num_sets=4), "b": FakeSubject()}
    monkeypatch.setattr(turns, "subject_of", lambda cell: subjects[cell.entry])
    monkeypatch.setattr(turns, "after_rounds", lambda cell, subject: None)
    before = snapshot()
    yield subjects
    restore(before)


def test_inputs_are_renewed_before_each_round_for_the_calls_that_come(subjects):
    take_rounds(A, B, num_rounds=3)
    assert subjects["a"].log[:2] == ["rotate", "prepare"]
    assert subjects["a"].log[2:] == [(0, 1, False), (1, 1, True), (2, 1, True)]


def test_the_order_changes_from_round_to_round_and_inputs_are_renewed_in_that_of_the_samples(
    subjects,
):
    log = []
    for name in "ab":
        subjects[name].call = partial(log.append, name)
        subjects[name].renew = lambda *words, it=name, whole: log.append(f"new {it}")
    take_rounds(A, B, num_rounds=8)
    rounds = log[4:]  # after two calls of warm-up each
    orders = {tuple(rounds[start : start + 4]) for start in range(0, len(rounds), 4)}
    assert orders == {("new a", "new b", "a", "b"), ("new b", "new a", "b", "a")}


def test_what_is_made_of_new_inputs_is_made_anew_while_that_has_taken_less_than_samples(
    subjects, time
):
    def renew(number, num_calls, *, whole):
        subjects["a"].log.append(whole)
        time.now += 1.5 * SAMPLE_S if whole else 0.0

    subjects["a"].renew = renew
    take_rounds(A, B, num_rounds=6)
    assert subjects["a"].log[2:] == [False, True, True, False, True, True]


def test_the_account_of_the_worker_is_samples_and_what_is_outside_of_them(
    subjects, time, monkeypatch
):
    def renew(number, num_calls, *, whole):
        time.now += 3.0

    def ask(self, **message):
        self.sent.append(message)
        time.now += 5.0  # until the parent has read its clock

    monkeypatch.setattr(Channel, "ask", ask)
    subjects["a"].renew = renew
    sent, result = take_rounds(A, B, num_rounds=3)
    assert (result.outside_s, result.waited_s) == pytest.approx((3 * 3.0 + 2 * 5.0, 2 * 5.0))
    assert result.cpu_per_wall == (2.0, 2.0)
    assert result.measured_s == pytest.approx(2 * (2 + 3) * SAMPLE_S), "two calls of warm-up each"
    steps = [message["step"] for message in sent if "step" in message]
    assert steps.index(ROUNDS_BEGIN) < steps.index(ROUNDS_END)


@pytest.mark.parametrize(
    ("budget_s", "count", "why"), [(0.0, 2, "budget"), (15.0, 3, "budget"), (60.0, 5, "rounds")]
)
def test_rounds_go_on_beyond_the_fewest_while_there_is_budget_for_each_member(
    subjects, monkeypatch, budget_s, count, why
):
    now = itertools.count(0.0, 10.0)
    monkeypatch.setattr(load, "snapshot", lambda: replace(SNAPSHOT, wall_s=next(now)))
    monkeypatch.setattr(module, "now_s", lambda: next(now))
    sent, result = take_rounds(A, B, num_rounds=2, max_rounds=5, budget_s=budget_s)
    assert sum("round" in message for message in sent) == count and result.stop_reason == why


def test_rounds_end_when_a_ratio_is_known_or_a_stop_is_asked(subjects, monkeypatch):
    rules = {"num_rounds": 7, "max_rounds": 50, "budget_s": 60.0}
    sent, result = take_rounds(A, B, references=[1, None], **rules)
    assert sum("round" in message for message in sent) == 7 and result.stop_reason == "precise"
    monkeypatch.setattr(Channel, "is_stop_asked", lambda self: True)
    sent, result = take_rounds(A, B, **rules)
    assert sum("round" in message for message in sent) == 1 and result.stop_reason == "interrupted"


def test_a_member_of_several_threads_has_no_share_of_one_core(subjects, monkeypatch):
    now = torch.get_num_threads()
    shares = [
        take_rounds(replace(A, num_threads=of_a), replace(B, num_threads=of_b), num_rounds=1)[1]
        for of_a, of_b in ((1, 1), (2, 1), (2, 2))
    ]
    torch.set_num_threads(now)
    found = [result.cpu_per_wall for result in shares]
    assert found == [(2.0, 2.0), (None, None), (None, None)]


def at_call(number, act):
    """A call that does something when it is made for that time."""
    calls = []

    def call():
        calls.append(1)
        if len(calls) == number:
            act()

    return call


@pytest.mark.parametrize("number", [1, 5])
def test_who_changes_what_all_share_ends_the_rounds_and_is_named(subjects, number):
    subjects["b"].call = at_call(number, lambda: torch.set_flush_denormal(True))
    with pytest.raises(JobFailed, match="b changed flush-denormal from False to True") as failed:
        take_rounds(A, B)
    assert failed.value.status is Status.ERROR


def test_a_member_that_is_wrong_in_the_end_is_told_apart_from_those_that_are_right(
    subjects, monkeypatch
):
    def check(cell, subject):
        if cell.entry == "b":
            raise Incorrect("off by 3")

    monkeypatch.setattr(turns, "after_rounds", check)
    _, result = take_rounds(A, B)
    assert result.wrong == (None, "off by 3")


class Remembering(FakeSubject):
    """Its call takes a tenth of the time for values that it has seen."""

    def __init__(self, num_sets):
        super().__init__(self.answer, num_sets)
        self.new = set(range(num_sets))
        self.next = 0

    def renew(self, number, num_calls, *, whole):
        places = range(self.next, self.next + min(num_calls, len(self.sets)))
        self.new |= {place % len(self.sets) for place in places}

    def answer(self):
        seconds = 1e-4 if self.next in self.new else 1e-5
        self.new.discard(self.next)
        self.next = (self.next + 1) % len(self.sets)
        return seconds


@pytest.mark.parametrize("num_sets", [1, 2, 4])
def test_a_member_that_gains_from_inputs_that_it_has_seen_is_refused(
    subjects, monkeypatch, num_sets
):
    def time_calls(self, call, count):
        return sum(call() or 1e-5 for _ in range(count))

    monkeypatch.setattr(Time, "time_calls", time_calls)
    subjects["a"] = Remembering(num_sets)
    _, result = take_rounds(A, B)
    assert result.wrong[0].startswith("it is faster on repeated inputs: it caches results")
    assert "10.0 times as long" in result.wrong[0]
    assert result.wrong[1] is None


@pytest.mark.parametrize(
    "seen",
    [[(2e-5, 1e-5), (3e-5, 1e-5), (1e-5, 1e-5)], [(1.19e-3, 1e-3)], [(2.9e-6, 1e-6)]],
    ids=["a load at some looks", "less than a fifth", "less than the clock can tell"],
)
def test_new_inputs_that_are_a_little_slower_or_at_some_looks_are_no_fault(
    subjects, monkeypatch, seen
):
    subjects["a"] = FakeSubject(num_sets=4)
    looks = iter(seen)
    monkeypatch.setattr(Time, "time_calls", lambda self, call, count: 1e-5 * count)
    monkeypatch.setattr(turns.Turns, "_time_new_and_seen", lambda self: next(looks))
    _, result = take_rounds(A)
    assert result.wrong == (None,)
