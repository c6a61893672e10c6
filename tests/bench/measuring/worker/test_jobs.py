"""Signals that ask a measurement to stop, and what plugins' constructors refuse."""

import os
import signal
from dataclasses import replace

import pytest

from bench.core.record import Status
from bench.measuring.worker.jobs import Interrupt, refusals
from bench.measuring.worker.messages import NoMessage
from bench.measuring.worker.outcome import Outcome
from bench.measuring.worker.results import BuildResult
from tests.bench.measuring.worker.fakes import cell


@pytest.fixture
def hangup():
    """A closed terminal's signal as it comes, though `nohup` ran the tests; put back afterwards."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_a_question_that_waits(number, hangup):
    with Interrupt() as interrupt:
        assert not interrupt.is_asked
        os.kill(os.getpid(), number)
        assert interrupt.is_asked


def test_a_second_ctrl_c_raises_and_a_second_hangup_does_not(hangup):
    with Interrupt() as interrupt:
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGHUP)
        assert interrupt.is_asked
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_handlers_are_put_back(hangup):
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    with Interrupt():
        assert [signal.getsignal(number) for number in numbers] != before
    assert [signal.getsignal(number) for number in numbers] == before


def test_what_nohup_ignores_stays_ignored(hangup):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with Interrupt() as interrupt:
        os.kill(os.getpid(), signal.SIGHUP)
        assert not interrupt.is_asked


BUILT = Outcome(status=Status.OK, result=BuildResult(measured_s=0.0))
DIED = Outcome(status=Status.CRASHED, reason="killed by SIGSEGV in step 'build b'")


class Builders:
    """Workers that say what each of them is told to, and end as they are told to."""

    def __init__(self, *turns):
        self.turns, self.asked = list(turns), []

    def do(self, job, *, hear, plugins, cells):
        self.asked.append([flat["entry"] for flat in cells])
        messages, outcome = self.turns.pop(0)
        for message in messages:
            hear(message)
        return outcome


def shapes(*entries):
    """A cell for each entry, no two with the same key."""
    return [
        replace(one, workload=replace(one.workload, seq_len=8 + number))
        for number, one in enumerate(cell(entry=entry) for entry in entries)
    ]


def test_what_a_constructor_refuses_is_known_by_the_key_of_its_cell():
    some = shapes("a", "a", "b")
    said = [{"asked": 0}, {"asked": 1}, {"refused": "too short"}, {"asked": 2}, {"refused": "no"}]
    jobs = Builders((said, BUILT))
    assert refusals(some, jobs) == {some[1].key: "too short", some[2].key: "no"}
    assert jobs.asked == [["a", "a", "b"]]


def test_a_constructor_that_ends_its_process_takes_its_entry_along_and_no_other():
    some = shapes("a", "b", "c", "b", "d")
    jobs = Builders(
        ([{"asked": 0}, {"refused": "no"}, {"asked": 1}], DIED),
        ([{"asked": 0}, {"refused": "not a"}, {"asked": 1}], DIED),
    )
    assert refusals(some, jobs) == {some[0].key: "no", some[2].key: "not a"}
    assert jobs.asked == [["a", "b", "c", "b", "d"], ["c", "d"]]


def test_no_cell_is_asked_of_nobody_and_one_beyond_the_last_is_no_message():
    assert refusals([], Builders()) == {}
    with pytest.raises(NoMessage, match="asked is 1, and there are 1 cells"):
        refusals(shapes("a"), Builders(([{"asked": 1}], BUILT)))
