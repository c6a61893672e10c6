"""Ways in which other benchmarks have been wrong, and that the tests of no single module rule out.

What one module can get wrong alone, such as a statistic or a clock, is tested beside it.
"""

import math
import time
from dataclasses import replace
from types import SimpleNamespace

import psutil
import pytest
import torch

from bench.core.cell import Cell, TaskWorkload
from bench.core.record import Status
from bench.measuring.machine.environment import freshness
from bench.measuring.measure.stopping import Stopping
from bench.measuring.oracle import checking, oracle
from bench.measuring.plan import PlannedCell
from bench.measuring.subject import Subject
from bench.measuring.tasks import train as training
from bench.measuring.tasks.base import Split, build_task
from bench.measuring.tasks.recall import Recall
from bench.measuring.todo import missing
from bench.measuring.worker.jobs import Interrupt, Jobs
from bench.measuring.worker.results import PROBE, ROUNDS, TRIAL
from tests import records as made
from tests.records import kernel_cell

pytestmark = pytest.mark.usefixtures("one_thread")
TINY = {"num_steps": 6, "batch_size": 8, "num_test_examples": 64}


@pytest.fixture(scope="module")
def jobs(workers):
    with Interrupt() as interrupt:
        workers.start()
        yield Jobs(workers, timeout_s=60, interrupt=interrupt)


def tiny_task(name):
    return build_task(name, TINY)


def test_the_parent_takes_no_processor_while_a_worker_is_timed(jobs):
    cells = [kernel_cell("softmax").to_dict()]
    second = Stopping(budget_s=1.0, min_sample_s=0.05, max_rounds=10_000)
    started, wall = time.process_time(), time.monotonic()
    outcome = jobs.do(ROUNDS, cells=cells, stopping=vars(second), order_seed=0, plugins=())
    used_s, wall_s = time.process_time() - started, time.monotonic() - wall
    assert outcome.is_ok and outcome.found.stop_reason == "budget"
    assert used_s < 0.1 * wall_s


@pytest.mark.parametrize("mechanism", ["zeros", "constant", "not_a_number"])
def test_no_tolerance_is_wide_enough_for_an_output_that_is_nothing(mechanism, monkeypatch):
    __import__("tests.misbehaving")
    anything = oracle.Tolerance(max_error=math.inf, rms_error=math.inf)
    monkeypatch.setitem(oracle.TOLERANCES, "float32", anything)
    checking.check(Subject(kernel_cell("good", mechanism="good", seq_len=32)))
    with pytest.raises(oracle.Incorrect):
        checking.check(Subject(kernel_cell(mechanism, mechanism=mechanism, seq_len=32)))


def test_a_cell_leaves_no_memory_behind_that_the_next_one_would_lack(jobs):
    def held_bytes():
        here = psutil.Process()
        return sum(p.memory_info().rss for p in [here, *here.children(recursive=True)])

    large = kernel_cell("softmax_explicit", seq_len=2048, num_heads=2).to_dict()
    jobs.do(PROBE, cell=kernel_cell("linear").to_dict(), plugins=())
    before = held_bytes()
    outcome = jobs.do(TRIAL, cell=large, plugins=(), root=None)
    assert outcome.is_ok and outcome.found.peak_memory_bytes > 60 * 2**20
    assert held_bytes() - before < 20 * 2**20


def test_a_cell_that_did_not_fit_is_tried_again_when_memory_is_back():
    here = SimpleNamespace(versions={"torch": "x"}, devices={}, processor="p", allocator="retain")
    cell = kernel_cell("linear")
    fresh = freshness(cell, here)
    skipped = made.failed_record(cell, Status.SKIPPED, "needs 9 GiB, 1 is free", freshness=fresh)
    planned = [PlannedCell(cell=cell)]
    assert missing(planned, [skipped], here) == planned
    done = replace(skipped, status=Status.INCORRECT)
    assert missing(planned, [done], here) == []


@pytest.fixture
def watched_training(monkeypatch):
    """Train on recall, noting when which split is looked at; returns log, quality and model."""
    log, models = [], []
    batches, build = Recall.batches, training.build_model

    def watched(self, split, seed):
        for batch in batches(self, split, seed):
            log.append(split)
            yield batch

    def building(*args):
        models.append(build(*args))
        return models[-1]

    monkeypatch.setattr(Recall, "batches", watched)
    monkeypatch.setattr(training, "build_model", building)
    workload = TaskWorkload(label="recall", task="recall", settings=TINY, seed=0)
    cell = Cell(
        entry="linear",
        mechanism="linear",
        hyperparameters={},
        device="cpu",
        num_threads=1,
        workload=workload,
    )
    quality = training.train(cell)
    (model,) = models
    return log, quality, model


def test_nothing_is_chosen_by_its_score_on_the_test_set(watched_training):
    looks, quality, _ = watched_training
    log = [*looks]  # drawing the test set again, below, is noted as well
    first_look = log.index(Split.TEST)
    assert log[:first_look] == [Split.TRAIN] * quality.num_steps
    # One look: every test batch once, so there was nothing to choose from.
    num_batches = len(list(tiny_task("recall").batches(Split.TEST, 0)))
    assert log[first_look : first_look + num_batches] == [Split.TEST] * num_batches
    # Then the score on training examples, which is recorded beside it.
    assert set(log[first_look + num_batches :]) == {Split.TRAIN}


def test_the_score_is_of_the_last_step(watched_training):
    _, quality, model = watched_training
    task = tiny_task("recall")
    model.eval()
    right = total = 0
    with torch.no_grad():
        for batch in task.batches(Split.TEST, 0):
            chosen = model(batch.inputs, batch.positions).argmax(dim=-1)
            right += int((chosen == batch.targets).sum())
            total += batch.targets.numel()
    assert quality.accuracy == pytest.approx(right / total)
