import pytest

from bench.record import Status
from bench.selftest import overhead
from bench.selftest.overhead import WatchedJobs, durations
from bench.worker.jobs import Jobs, Outcome


def test_a_step_lasts_until_the_next_one_begins():
    marks = [("fork", 10.0), ("build", 10.5), ("oracle", 12.0)]
    assert durations(marks, 12.25) == {"fork": 0.5, "build": 1.5, "oracle": 0.25}


class Clock:
    now = 0.0


@pytest.fixture
def jobs(monkeypatch):
    """Jobs on a written clock: a trial of known steps, rounds of known length."""

    def do(self, job, *, hear, **request):
        if job == "trial":
            for step, seconds in (("build", 0.25), ("oracle", 0.5), ("flops", 1.0)):
                Clock.now += seconds
                hear({"step": step})
            Clock.now += 2.0
            return Outcome(status=Status.OK)
        Clock.now += 5.0
        hear({"round": [0.1]})
        return Outcome(status=Status.OK, values={"measured_s": 4.0})

    monkeypatch.setattr(Jobs, "do", do)
    monkeypatch.setattr(overhead, "now_s", lambda: Clock.now)
    return WatchedJobs(server=None, timeout_s=1.0, interrupt=None)


def test_the_steps_of_all_jobs_add_up_to_their_wall_time(jobs):
    heard = []
    started = Clock.now
    jobs.do("trial", hear=heard.append)
    jobs.do("trial")
    jobs.do("rounds", hear=heard.append)
    assert jobs.steps_s == {
        "fork": 2 * 0.25 + 1.0,
        "build": 2 * 0.5,
        "oracle": 2 * 1.0,
        "flops": 2 * 2.0,
        "rounds": 4.0,
    }
    assert sum(jobs.steps_s.values()) == Clock.now - started
    assert {"step": "oracle"} in heard and {"round": [0.1]} in heard
