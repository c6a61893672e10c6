"""Processes end with those that started them, and a sweep outlives its server."""

import os
import signal
import subprocess
import sys

import psutil
import pytest

from bench.core.record import Status
from bench.measuring.worker import launch
from bench.measuring.worker.jobs import Interrupt, Jobs
from bench.measuring.worker.launch import WorkerServer
from bench.measuring.worker.results import Job, ProbeResult
from tests.waiting import wait_until

STAND_IN = "tests.bench.measuring.worker.stand_in"
linux = pytest.mark.skipif(sys.platform != "linux", reason="asks the system for more than POSIX")


@pytest.fixture
def jobs(monkeypatch):
    monkeypatch.setattr(launch, "SERVER_MODULE", STAND_IN)
    monkeypatch.setattr(launch, "PATIENCE_S", 2.0)
    with WorkerServer() as server:
        yield Jobs(server, 30.0, Interrupt())


def do(jobs, name, on_message=None, **request):
    return jobs.do(Job(name, ProbeResult), on_message=on_message, **request)


def is_alive(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@linux
@pytest.mark.parametrize(
    ("how", "end"),
    [("same group", "answer"), ("daemon", "answer"), ("new session", "crash"), ("daemon", "hang")],
)
def test_a_process_that_a_worker_started_is_gone_when_the_worker_is(jobs, how, end):
    started = []
    jobs.timeout_s = 0.3 if end == "hang" else 30.0
    outcome = do(
        jobs,
        "child",
        how=how,
        end=end,
        on_message=lambda message: started.append(int(message["step"])),
    )
    expected = {"answer": Status.OK, "crash": Status.CRASHED, "hang": Status.TIMED_OUT}
    assert outcome.status is expected[end]
    assert not is_alive(started[0])
    assert do(jobs, "fine").is_ok


@pytest.mark.parametrize("job", ["kill_server", "stop_server"])
def test_a_server_that_its_worker_ends_or_stops_is_replaced_and_the_job_has_crashed(jobs, job):
    jobs.server.start()
    first = jobs.server._process.pid
    outcome = do(jobs, job)
    assert outcome.status is Status.CRASHED
    assert "the server that forks the workers was ended or stopped" in outcome.reason
    assert do(jobs, "fine").is_ok
    assert jobs.server._process.pid != first and not is_alive(first)


@linux
@pytest.mark.parametrize(
    ("how", "number"),
    [
        ("daemon", signal.SIGKILL),
        ("daemon", signal.SIGSTOP),
        ("without environment", signal.SIGKILL),
    ],
)
def test_a_process_that_a_worker_started_is_gone_when_the_server_is_ended_or_stopped(
    jobs, how, number
):
    started = []

    def on_message(message):
        started.append(int(message["step"]))
        os.kill(jobs.server._process.pid, number)
        os.kill(jobs.server._workers.copy().pop(), signal.SIGKILL)

    outcome = do(jobs, "child", how=how, end="hang", on_message=on_message)
    assert outcome.status is Status.CRASHED
    wait_until(lambda: not is_alive(started[0]), 5.0)
    assert do(jobs, "fine").is_ok


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_server_that_ends_or_stops_between_two_jobs_costs_none_of_them(jobs, number):
    assert do(jobs, "fine").is_ok
    os.kill(jobs.server._process.pid, number)
    assert do(jobs, "fine").is_ok


@pytest.mark.parametrize("job", ["long_line", "no_message"])
def test_what_is_no_message_ends_its_worker_and_no_other(jobs, job):
    outcome = do(jobs, job)
    assert outcome.status is Status.CRASHED
    assert "invalid message" in outcome.reason
    assert do(jobs, "fine").is_ok


@pytest.mark.parametrize(
    ("job", "said"), [("steps", "one more than its job has"), ("deaf", "not read")]
)
def test_a_worker_that_never_stops_talking_ends_and_no_other(jobs, job, said):
    outcome = do(jobs, job)
    assert outcome.status is Status.CRASHED and said in outcome.reason
    assert do(jobs, "fine").is_ok


PARENT = f"""
from bench.measuring.worker import launch
from bench.measuring.worker.launch import WorkerServer
launch.SERVER_MODULE = "{STAND_IN}"
server = WorkerServer()
worker = server.spawn(job="hang")
while worker.step == "start":
    worker.poll(1)
print(server._process.pid, worker.step, flush=True)
import time
time.sleep(1000)
"""


@linux
@pytest.mark.parametrize("stopped", ["none", "both"])
def test_server_and_worker_end_with_a_parent_that_is_killed(stopped, tmp_path):
    with (tmp_path / "terminal").open("w+") as terminal:
        parent = subprocess.Popen(
            [sys.executable, "-c", PARENT], stdout=subprocess.PIPE, stderr=terminal, text=True
        )
        server, worker = map(int, parent.stdout.readline().split())
        for pid in (server, worker):
            if stopped == "both":
                os.kill(pid, signal.SIGSTOP)
        parent.kill()
        parent.wait()
        wait_until(lambda: not is_alive(server) and not is_alive(worker), 5.0)
        terminal.seek(0)
        assert terminal.read() == ""
    parent.stdout.close()
