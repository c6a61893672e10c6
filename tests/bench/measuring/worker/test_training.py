"""Which training runs go side by side, when they end, and what is said of them."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from bench.core.record import Status
from bench.measuring.worker import training as module
from bench.measuring.worker.outcome import Outcome
from bench.measuring.worker.training import Training, Trainings
from tests.records import task_cell


class Lock:
    held = True

    def release(self):
        self.held = False


class FakeWorker:
    alive, has_line = True, False

    def kill(self):
        self.alive = False


def trainings(*cells, num_cores=4, timeout_s=60.0):
    """Runs of these cells, all begun at second 100."""
    here = SimpleNamespace(num_cores=num_cores)
    found = Trainings(None, here, timeout_s, None, lambda words: None)
    for cell in cells:
        found._running[FakeWorker()] = Training(
            cell=cell, started_s=100.0, started_at="", lock=Lock()
        )
    return found


def on(device="cpu", num_threads=1):
    return replace(task_cell("nala"), device=device, num_threads=num_threads)


@pytest.mark.parametrize(
    ("beside", "cell", "has_room"),
    [
        ([], on(num_threads=9), True),  # alone it may, or it never would
        ([on()] * 3, on(), True),
        ([on()] * 4, on(), False),
        ([on(num_threads=2)], on(num_threads=2), True),
        ([on(num_threads=2)], on(num_threads=3), False),
        ([on("cuda:0")], on("cuda:0"), False),
        ([on("cuda:0")], on("cuda:1"), True),
        ([on("cuda:0")] * 4, on(), True),
    ],
)
def test_a_cpu_has_room_for_as_many_threads_as_cores_and_a_card_for_one_run(beside, cell, has_room):
    assert trainings(*beside).has_room(cell) is has_room


def test_a_run_beyond_its_time_is_ended_and_its_device_is_free(monkeypatch):
    running = trainings(on(), timeout_s=60.0)
    ((worker, run),) = running._running.items()
    monkeypatch.setattr(module, "now_s", lambda: 160.0)
    assert list(running.overdue()) == [] and worker.alive and run.lock.held
    monkeypatch.setattr(module, "now_s", lambda: 160.5)
    ((ended, outcome),) = running.overdue()
    assert ended is run and not (worker.alive or run.lock.held) and len(running) == 0
    assert (outcome.status, outcome.wall_s) == (Status.TIMED_OUT, 60.5)
    assert outcome.reason == "training took longer than 60 s"


def test_a_last_message_that_came_together_with_the_one_before_it_is_heard(monkeypatch):
    running = trainings(on())
    ((worker, run),) = running._running.items()
    running._jobs = SimpleNamespace(busy_s=0.0)
    last = Outcome(status=Status.DIVERGED, reason="no number")
    worker.has_line, worker.poll, worker.close = True, lambda _: last.to_message(), lambda: None
    monkeypatch.setattr(module.select, "select", lambda *words: ([], [], []))
    ((ended, outcome),) = running.ended()
    assert ended is run and outcome.reason == "no number" and not run.lock.held


def test_a_run_is_told_its_checkpoint_and_the_source_that_this_has_to_be_of(monkeypatch):
    running, cell, told = trainings(), on(), {}
    running._folder = Path("out/checkpoints")
    running._jobs = SimpleNamespace(server=SimpleNamespace(spawn=lambda **all_: told.update(all_)))
    monkeypatch.setattr(module, "source_of_training", lambda cell, here: f"of {cell.key}")
    running.start(cell, Lock())
    assert told == {
        "job": "train",
        "plugins": (),
        "cell": cell.to_dict(),
        "checkpoint": f"out/checkpoints/{cell.key}.pt",
        "source": f"of {cell.key}",
        "examples": "out/examples",
    }
