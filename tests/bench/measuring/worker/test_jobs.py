"""Signals that ask a measurement to stop, and what plugins' constructors refuse."""

import os
import signal
from dataclasses import replace

import pytest

from bench.core.record import Status
from bench.measuring.worker import jobs as room
from bench.measuring.worker.jobs import Interrupt, Interrupted, Jobs, refusals
from bench.measuring.worker.launch import WorkerDied
from bench.measuring.worker.messages import NoMessage
from bench.measuring.worker.outcome import Outcome
from bench.measuring.worker.results import BUILD, BuildResult
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

    def do(self, job, *, on_message, plugins, cells):
        self.asked.append([flat["entry"] for flat in cells])
        messages, outcome = self.turns.pop(0)
        try:
            for message in messages:
                on_message(message)
        except NoMessage as error:  # as `Jobs` does
            return Outcome(status=Status.CRASHED, reason=str(error))
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


@pytest.fixture
def talk(monkeypatch):
    """`talk(*turns)`: jobs of a worker that is silent for seconds, says something, or dies."""
    now = [100.0]
    monkeypatch.setattr(room, "now_s", lambda: now[0])

    class Worker:
        step, is_killed = "build", False

        def __init__(self, turns):
            self.turns, self.heard = list(turns), []

        def spawn(self, **request):
            return self

        def poll(self, timeout_s):
            turn = self.turns.pop(0)
            if isinstance(turn, WorkerDied):
                raise turn
            now[0] += turn if isinstance(turn, float) else 0.0
            return None if isinstance(turn, float) else turn

        def send(self, **message):
            self.heard.append(message)

        def kill(self):
            self.is_killed = True

        def close(self):
            pass

    return lambda *turns: Jobs(Worker(turns), 1.0, Interrupt())


ROUND = {"round": [1.0]}
LAST = BUILT.to_message() | {"result": {"measured_s": 2.0}}


def test_the_silence_of_a_worker_is_counted_from_its_last_message_on_and_its_work_adds_up(talk):
    jobs = talk(0.8, ROUND, 0.8, {"step": "x", "waits": True}, 0.8, LAST, LAST, 0.8, 0.3)
    first, second, hung = (jobs.do(BUILD) for _ in range(3))
    assert (first.status, first.wall_s) == (Status.OK, pytest.approx(2.4)) and second.is_ok
    assert jobs.busy_s == 4.0 and jobs.server.heard == [{"heard": True}]
    assert (hung.status, hung.wall_s) == (Status.TIMED_OUT, pytest.approx(1.1))
    assert hung.reason == "no answer for 1 s in step 'build'" and jobs.server.is_killed


@pytest.mark.parametrize(
    ("code", "status"), [(-9, Status.OUT_OF_MEMORY), (-11, Status.CRASHED), (9, Status.CRASHED)]
)
def test_a_worker_that_died_has_its_last_words_in_the_record(talk, code, status):
    outcome = talk(0.5, WorkerDied("it ended", code, "last words")).do(BUILD)
    assert (outcome.status, outcome.detail, outcome.wall_s) == (status, "last words", 0.5)
    assert outcome.reason.startswith("it ended in step 'build'")


def test_a_stop_is_asked_once_of_a_worker_whose_rounds_are_worth_keeping_and_kills_others(talk):
    jobs = talk(ROUND, ROUND, LAST)
    jobs.interrupt.is_asked = True
    assert jobs.do(BUILD, may_stop=lambda: True).is_ok
    assert jobs.server.heard == [{"stop": True}] and not jobs.server.is_killed
    for may_stop in (None, lambda: False):
        jobs.server.is_killed = False
        with pytest.raises(Interrupted):
            jobs.do(BUILD, may_stop=may_stop)
        assert jobs.server.is_killed
