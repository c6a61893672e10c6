"""Eighteen ways in which other benchmarks have been wrong, each with a test that it is not ours.

Every test is named after what it guards and holds by itself, also where the module that it is about
has tests of its own.
"""

import inspect
import json
import math
import os
import random
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch

from bench import inputs, oracle
from bench.cell import Cell, TaskWorkload
from bench.gate.rows import LATENCY, Row, exit_code
from bench.gate.verdict import Verdict
from bench.gate.versus import Effort, compare
from bench.machine.environment import freshness
from bench.measure import clock as clocks
from bench.measure import flops, memory
from bench.measure.latency import Member, time_round, warm_up
from bench.measure.stopping import Stopping
from bench.metrics import evaluate, find_metric, metric_names
from bench.plan import PlannedCell
from bench.publish.format import interval_names
from bench.publish.leaderboard import build_leaderboard
from bench.publish.markdown import leaderboard_page
from bench.record import Status
from bench.statistics import paired_ratio, quantile
from bench.subject import build_module
from bench.sweep import missing
from bench.tasks import train as training
from bench.tasks.base import Split, build_task
from bench.tasks.recall import Recall
from bench.worker.jobs import Interrupt, Jobs
from bench.worker.launch import WorkerServer
from bench.worker.outcome import Outcome
from bench.worker.results import PROBE, ROUNDS, TRIAL, VersusResult
from tests import records as made
from tests.bench.measure.test_clock import FakeCuda
from tests.digests import all_digests
from tests.records import kernel_cell, task_cell

ROOT = Path(__file__).resolve().parent.parent
CPU = torch.device("cpu")
TINY = {"num_steps": 3, "batch_size": 8}


@pytest.fixture(scope="module")
def jobs():
    with WorkerServer() as server, Interrupt() as interrupt:
        server.start()
        yield Jobs(server, timeout_s=60, interrupt=interrupt)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def elapsing(monkeypatch):
    """A CPU clock on which time passes only where a test says so: `elapsing(seconds)`."""
    now = SimpleNamespace(ns=0)
    monkeypatch.setattr(clocks.time, "perf_counter_ns", lambda: now.ns)

    def elapse(seconds):
        now.ns += round(seconds * 1e9)

    return elapse


def page_of(records):
    columns = ["latency_s", "speedup_over_softmax", "peak_memory_bytes"]
    return leaderboard_page(build_leaderboard(records, metrics=columns), columns)


def tiny_task(name):
    return build_task(name, TINY)


# 1


def test_queued_work_and_first_calls_are_not_timed(elapsing):
    cuda = clocks.CudaClock(torch.device("cuda:0"))
    cuda._cuda = FakeCuda(milliseconds=1.0)
    cuda.time_calls(lambda: cuda._cuda.log.append("call"), 1)
    assert cuda._cuda.log == ["synchronize", "record", "call", "record", "wait"]

    seconds = iter([5.0, 0.011, 0.01] + [0.01] * 100)
    clock = clocks.CpuClock()
    member = warm_up(lambda: elapsing(next(seconds)), clock, min_sample_s=0.001)
    assert member.warmup_s[0] == 5.0
    assert time_round([member], [0], clock) == [pytest.approx(0.01)]


# 2


def test_an_outlier_is_kept_as_it_was_and_never_becomes_a_zero():
    samples = [0.010, 0.011, 0.012, 0.9, 0.013, 0.011, 0.012]
    record = made.ok_record(kernel_cell("linear"), made.speed(samples, [0.02] * 7))
    assert list(record.result.latency_s) == samples
    values = evaluate(record, ["latency_s", "num_samples"])
    assert values == {"latency_s": 0.012, "num_samples": 7}
    with pytest.raises(ValueError, match="above zero"):
        paired_ratio([0.01, 0.0], [0, 1], [0.01, 0.01], [0, 1])


# 3


def test_one_regression_among_a_hundred_cells_fails_the_gate():
    same = Row(entry="e", mechanism="m", cell="c", key="k", channel=LATENCY, verdict=Verdict.SAME)
    assert exit_code([same] * 100) == 0
    assert exit_code([*[same] * 50, replace(same, verdict=Verdict.SLOWER), *[same] * 49]) == 1
    assert exit_code([*[same] * 99, replace(same, channel="flops", verdict=Verdict.MORE)]) == 1


# 4


def test_a_column_shows_the_statistic_that_it_names():
    samples = [0.001 * number for number in range(1, 202)]
    random.Random(0).shuffle(samples)
    slower = [2 * seconds for seconds in samples]
    record = made.ok_record(kernel_cell("linear"), made.speed(samples, slower))
    values = evaluate(record, metric_names())
    assert values["latency_p05_s"] == pytest.approx(0.011)
    assert values["latency_s"] == pytest.approx(0.101)
    assert values["latency_p95_s"] == pytest.approx(0.191)
    bounded = [name for name in values if set(interval_names(name)) <= values.keys()]
    assert bounded
    for name in bounded:
        low, high = (values[bound] for bound in interval_names(name))
        assert low <= values[name] <= high


# 5


def test_the_cache_is_flushed_outside_of_the_timed_span(elapsing):
    order = []

    def call():
        order.append("call")
        elapsing(0.25)

    def flush():
        order.append("flush")
        elapsing(100.0)

    member = Member(call=call, calls_per_sample=3, warmup_s=())
    assert time_round([member], [0], clocks.CpuClock(), flush) == [0.25]
    assert order == ["flush", "call"] * 3


# 6


def test_the_parent_takes_no_processor_while_a_worker_is_timed(jobs):
    cells = [kernel_cell("softmax").to_dict()]
    second = Stopping(budget_s=1.0, min_sample_s=0.05, max_rounds=10_000)
    started, wall = time.process_time(), time.monotonic()
    outcome = jobs.do(ROUNDS, cells=cells, stopping=vars(second), order_seed=0, plugins=())
    used_s, wall_s = time.process_time() - started, time.monotonic() - wall
    assert outcome.is_ok and outcome.found.stop_reason == "budget"
    assert used_s < 0.1 * wall_s


# 7


def test_peak_memory_is_of_one_call_and_not_of_what_ran_before_it(jobs):
    small = kernel_cell("linear", seq_len=64)
    large = kernel_cell("softmax_explicit", seq_len=512)

    def peak(cell):
        outcome = jobs.do(TRIAL, cell=cell.to_dict(), plugins=(), root=None)
        assert outcome.is_ok, outcome.reason
        return outcome.found.peak_memory_bytes

    alone = peak(small)
    assert peak(large) > 20 * alone
    assert peak(small) == alone

    x = torch.ones(2**10)
    warmed = memory.peak_memory_bytes(lambda: x + 1, CPU)
    large_x = torch.ones(2**20)
    assert memory.peak_memory_bytes(lambda: large_x + 1, CPU) > warmed
    assert memory.peak_memory_bytes(lambda: x + 1, CPU) == warmed


# 8


def test_fused_attention_has_flops_and_a_multiply_add_counts_two():
    q = torch.randn(2, 3, 64, 16)
    products = 2 * (2 * 3 * 64 * 64 * 16)  # scores, and the mix of the values
    fused = flops.count(lambda: torch.nn.functional.scaled_dot_product_attention(q, q, q))
    explicit = flops.count(lambda: (q @ q.transpose(-2, -1)).softmax(dim=-1) @ q)
    assert fused.counted_flops == explicit.counted_flops == 2 * products

    cell = kernel_cell("softmax_explicit", seq_len=64, num_heads=3, head_dim=16, batch_size=2)
    module = build_module(replace(cell, hyperparameters={}))
    assert flops.count_with_fvcore(module, (q, q, q)).flops == 2 * products


# 9


@pytest.mark.parametrize("mechanism", ["zeros", "constant", "not_a_number"])
def test_no_tolerance_is_wide_enough_for_an_output_that_is_nothing(mechanism, monkeypatch):
    __import__("tests.misbehaving")
    anything = oracle.Tolerance(max_error=math.inf, rms_error=math.inf)
    monkeypatch.setitem(oracle.TOLERANCES, "float32", anything)
    oracle.check(kernel_cell("good", mechanism="good", seq_len=32))
    with pytest.raises(oracle.Incorrect):
        oracle.check(kernel_cell(mechanism, mechanism=mechanism, seq_len=32))


# 10


def unsettle(seed):
    """Put every global stream of random numbers somewhere else."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def test_the_seed_covers_all_randomness_of_a_task():
    cell = task_cell("linear", "recall", seed=3, settings=TINY)

    def run(state):
        unsettle(state)
        return training.train(cell), all_digests(seed=3)

    first = run(1)
    assert run(2) == first
    for before, other in zip(first[1], all_digests(seed=4), strict=True):
        assert before != other


def test_the_seed_covers_all_randomness_of_a_kernel_cell():
    cell = kernel_cell("performer", seq_len=32)

    def built(state):
        unsettle(state)
        tensors = inputs.make(cell.kernel, seed=5, dtype=torch.float32, device=CPU)
        return [*build_module(cell).state_dict().values(), *tensors]

    assert all(torch.equal(a, b) for a, b in zip(built(1), built(2), strict=True))


# 11


def test_splits_do_not_depend_on_the_order_of_a_set():
    code = (
        "import json; from tests.digests import all_digests\n"
        "print(json.dumps([hash('a'), all_digests()]))"
    )

    def run(hash_seed):
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        )
        return json.loads(done.stdout)

    (one, first), (other, second) = run("1"), run("2")
    assert one != other  # sets of words do come in another order
    assert first == second == all_digests()


# 12


def test_a_seed_or_a_cell_that_is_missing_is_shown_and_not_averaged_away():
    seeds = made.task_records(["nala", "linear"], seeds=(0, 1, 2))
    broken = [r for r in seeds if (r.cell.entry, r.cell.task.seed) == ("nala", 1)]
    rest = [r for r in seeds if r not in broken]
    cell = broken[0].cell
    page = page_of([*rest, made.failed_record(cell, Status.CRASHED, "killed by SIGSEGV")])
    assert re.search(r"^\| nala +\|.*\| 2 of 3 \|", page, re.M)
    assert "is not comparable with one that has all" in page
    assert "killed by SIGSEGV" in page

    timed = made.block_records(["softmax", "nala"], seq_len=256)
    hole = made.failed_record(kernel_cell("nala", seq_len=512), Status.TIMED_OUT, "no answer")
    assert evaluate(hole, ["latency_s", "speedup_over_softmax"]) == {
        "latency_s": None,
        "speedup_over_softmax": None,
    }
    assert "no answer" in page_of([*timed, hole])


# 13


def test_a_percentile_or_an_interval_needs_the_samples_for_it():
    assert quantile([1.0] * 15, 0.95) is None and quantile([1.0] * 100, 0.95) == 1.0
    few = made.ok_record(kernel_cell("linear"), made.speed([0.01] * 5, [0.02] * 5))
    values = evaluate(few, metric_names())
    assert values["latency_s"] == 0.01 and values["speedup_over_softmax"] == 2.0
    assert values["latency_p95_s"] is None and values["latency_p05_s"] is None
    assert {values[name] for name in interval_names("speedup_over_softmax")} == {None}


# 14


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


# 15


def test_no_number_is_averaged_over_tasks_or_columns():
    both = made.task_records(["nala", "linear"], task="recall")
    page = page_of([*both, *made.task_records(["nala"], task="digits")])
    tables = [line for line in page.splitlines() if line.startswith("| entry")]
    assert len(tables) == 2  # a table for each task, and none across them
    words = page.partition("## How to read this")[0].lower()
    for word in ("average", "mean ", "overall", "total score"):
        assert word not in words
    for name in metric_names():
        (only,) = inspect.signature(find_metric(name).of).parameters.values()
        assert only.name == "record", f"{name} sees more than one record"


# 16, 17


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
    steps = {"num_steps": 6, "batch_size": 8}
    workload = TaskWorkload(label="recall", task="recall", settings=steps, seed=0)
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
    log, _, _ = watched_training
    first_look = log.index(Split.TEST)
    assert log[:first_look] == [Split.TRAIN] * 6
    assert set(log[first_look:]) == {Split.TEST}
    # One look: every test batch once, so there was nothing to choose from.
    assert len(log) - first_look == len(list(tiny_task("recall").batches(Split.TEST, 0)))


def test_the_score_is_of_the_last_step_as_the_page_says(watched_training):
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
    methodology = " ".join((ROOT / "docs" / "methodology.md").read_text().split())
    assert "it is looked at once, after the last step" in methodology


# 18


class LuckyBase:
    """Jobs whose first fork finds the base 30 % faster than it is, and all others do not."""

    def __init__(self):
        self.num_forks = 0

    def do(self, job, *, hear, **_):
        self.num_forks += 1
        for _ in range(8):
            hear({"ratio": 1.3 if self.num_forks == 1 else 1.0})
        return Outcome(status=Status.OK, result=VersusResult(latency_s=0.001, measured_s=0.1))


def test_one_lucky_run_of_the_base_raises_no_alarm():
    cell, lucky = kernel_cell("linear"), LuckyBase()
    effort = Effort(threshold=0.03, num_forks=1, budget_s=0.0)
    found = compare(cell, cell, ROOT, lucky, effort, tail=0.01)
    assert found.verdict is not Verdict.SLOWER
    assert lucky.num_forks >= 2
    found = compare(cell, cell, ROOT, LuckyBase(), replace(effort, num_forks=6), tail=0.01)
    assert found.verdict is not Verdict.SLOWER
