"""The rounds of a worker: when to look at intervals, what may join, and what is no sample."""

import tempfile
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

import tests.misbehaving  # noqa: F401
from bench.measuring.measure.stopping import Stopping
from bench.measuring.worker import rounds as module
from bench.measuring.worker import turns
from bench.measuring.worker.rounds import half_widths, probe
from tests.bench.measuring.worker.fakes import (
    WORKLOAD,
    Channel,
    FakeSubject,
    cell,
    take_rounds,
    timed_by,
)

STOPPING = Stopping(min_rounds=7)


def test_intervals_are_looked_at_only_when_they_are_due():
    taken = [[1.0, 2.0]] * 6
    assert half_widths(taken, [0, 0], STOPPING) is None
    assert half_widths([*taken, [1.0, 2.0]], [0, 0], STOPPING) is not None
    assert half_widths([*taken, *taken[:2]], [0, 0], STOPPING) is None, "every fourth round"


def test_a_constant_ratio_is_known_and_a_wandering_one_is_not():
    steady = [[float(n), 3.0 * n] for n in range(1, 8)]
    assert half_widths(steady, [0, 0], STOPPING) == pytest.approx([0.0, 0.0])
    wandering = [[1.0, float(n)] for n in range(1, 8)]
    widths = half_widths(wandering, [0, 0], STOPPING)
    assert widths[0] == pytest.approx(0.0) and widths[1] > 0.1


@pytest.fixture
def one_call_per_sample(monkeypatch):
    def time_calls(call, count):
        for _ in range(count):
            call()
        return 0.25

    device = timed_by(SimpleNamespace(time_calls=time_calls))
    monkeypatch.setattr(module, "device_named", lambda name: device)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize(("mechanism", "is_right"), [("good", True), ("stale_later", False)])
def test_a_reference_that_was_only_probed_is_checked_after_the_rounds_like_a_member(
    one_call_per_sample, tmp_path, monkeypatch, mechanism, is_right
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    reference = replace(cell(), mechanism=mechanism)
    probe({"cell": reference.to_dict()}, Channel())
    _, result = take_rounds(reference, num_rounds=10)
    (wrong,) = result.wrong
    assert (wrong is None) == is_right
    assert is_right or wrong.startswith("after the rounds, for values that no call had seen, ")


@pytest.fixture
def take_compiled_rounds(one_call_per_sample, monkeypatch):
    """Rounds of a call that compiles for each new factor; two calls warm up, four are timed."""
    torch.compiler.reset()
    compiled = torch.compile(lambda x, factor: x * factor, backend="eager", dynamic=False)

    def take(compile_mode, factors):
        coming = iter(factors)
        subject = FakeSubject(lambda: compiled(torch.ones(1), next(coming)))
        monkeypatch.setattr(turns, "subject_of", lambda cell: subject)
        # The check calls it with other sizes than those that were timed.
        monkeypatch.setattr(turns, "after_rounds", lambda *of: compiled(torch.ones(2), 9))
        take_rounds(cell(workload=replace(WORKLOAD, compile=compile_mode)))

    with torch._dynamo.config.patch(error_on_recompile=False):
        yield take


def test_a_call_that_compiles_again_is_no_sample_of_compiled_code(take_compiled_rounds):
    with pytest.raises(torch._dynamo.exc.RecompileError):
        take_compiled_rounds("inductor", [2, 2, 2, 2, 3, 3])


class Clock:
    """A second for each thread that torch has while a call runs."""

    def time_calls(self, call, count):
        return count * float(torch.get_num_threads())


@pytest.fixture
def numbers_set(monkeypatch):
    """Subjects that do nothing; gives the numbers of threads that were set."""
    numbers = []
    now = torch.get_num_threads()
    set_threads = torch.set_num_threads

    def noted(number):
        numbers.append(number)
        set_threads(number)

    monkeypatch.setattr("bench.measuring.worker.turns.subject_of", lambda cell: FakeSubject())
    monkeypatch.setattr("bench.measuring.worker.turns.after_rounds", lambda cell, subject: None)
    monkeypatch.setattr(module, "device_named", lambda name: timed_by(Clock()))
    monkeypatch.setattr(torch, "set_num_threads", noted)
    yield numbers
    set_threads(now)


def samples(*numbers):
    sent, _ = take_rounds(*map(cell, numbers))
    return [message["round"] for message in sent if "round" in message]


def test_members_of_different_threads_have_their_own_in_every_round(numbers_set):
    assert samples(2, 1) == [[2.0, 1.0]] * 4


def test_members_of_the_same_threads_get_them_once_and_never_between_samples(numbers_set):
    assert samples(2, 2) == [[2.0, 2.0]] * 4
    assert numbers_set == [2] * 4, "one for each warm-up, one for each check after the rounds"
