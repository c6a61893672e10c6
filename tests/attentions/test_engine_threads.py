"""Who does the engine's jobs, and what becomes of the number of threads."""

import os
import subprocess
import sys
import threading
import weakref

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from attentions import Geometry, _engine_threads, build_attention
from attentions._engine_threads import Sharing, alone_if_few, run_jobs
from attentions._engine_tiles import Job
from bench.measure.memory import saved_for_backward_bytes

JOBS = [Job(0, slice(head, head + 1), slice(0, 4096), 4096) for head in range(4)]


@pytest.fixture(params=["spin", "sleep"])
def waiting(request, monkeypatch):
    """Threads that spin between operators, as they come, or sleep."""
    monkeypatch.setattr(
        "attentions._engine_threads._POLICY", "PASSIVE" if request.param == "sleep" else ""
    )
    return request.param


@pytest.fixture
def sleeping(monkeypatch):
    monkeypatch.setattr("attentions._engine_threads._POLICY", "PASSIVE")


def test_a_thread_of_the_engine_knows_no_gradients_and_inference_mode_as_its_caller(sleeping):
    torch.set_num_threads(2)
    both_there = threading.Barrier(2)

    def seen(job):
        both_there.wait(timeout=60)
        return threading.get_ident(), torch.is_grad_enabled(), torch.is_inference_mode_enabled()

    for inference in (False, True):
        with torch.inference_mode(inference):
            found = run_jobs(seen, JOBS)
        assert all(grad is False and mode is inference for _, grad, mode in found)
        assert len({ident for ident, *_ in found}) == 2


def test_threads_of_the_engine_keep_to_themselves_and_leave_other_threads_their_number(sleeping):
    torch.set_num_threads(2)
    assert run_jobs(lambda job: torch.get_num_threads(), JOBS) == [1, 1, 1, 1]
    found = []
    thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert found == [2]


def test_each_thread_holds_something_of_its_own_until_its_last_job(waiting):
    torch.set_num_threads(2)
    both_there = threading.Barrier(2 if waiting == "sleep" else 1)
    held = {}

    class Held:
        pass

    def hold():
        made = Held()
        held[threading.get_ident()] = weakref.ref(made)
        return made

    def is_held(job):
        both_there.wait(timeout=60)
        return held[threading.get_ident()]() is not None

    assert run_jobs(is_held, JOBS, held=hold) == [True] * 4
    assert len(held) == (2 if waiting == "sleep" else 1)
    assert [reference() for reference in held.values()] == [None] * len(held)


def test_an_error_in_a_thread_reaches_the_caller(waiting):
    torch.set_num_threads(2)

    def fail(job):
        raise ValueError(f"head {job.heads.start}")

    for jobs in (JOBS, JOBS[:1]):
        with pytest.raises(ValueError, match=r"head \d"):  # of whichever was first
            run_jobs(fail, jobs)
        assert torch.get_num_threads() == 2


def test_threads_that_spin_share_every_operator(monkeypatch):
    monkeypatch.setattr("attentions._engine_threads._POLICY", "")
    torch.set_num_threads(2)
    found = run_jobs(lambda job: (threading.get_ident(), torch.get_num_threads()), JOBS)
    assert set(found) == {(threading.get_ident(), 2)}


def test_the_caller_takes_part_and_little_work_wakes_nobody(sleeping):
    torch.set_num_threads(2)
    both_there = threading.Barrier(2)

    def seen(job):
        both_there.wait(timeout=60)
        return threading.get_ident()

    assert len({threading.get_ident()} & set(run_jobs(seen, JOBS))) == 1
    for jobs, sharing, num_threads in (
        (JOBS, Sharing.NONE, 1),
        (JOBS[:1], Sharing.JOBS, 1),
        (JOBS, Sharing.OPERATORS, 2),
    ):
        found = run_jobs(
            lambda job: (threading.get_ident(), torch.get_num_threads()), jobs, sharing=sharing
        )
        assert set(found) == {(threading.get_ident(), num_threads)}
        assert torch.get_num_threads() == 2


@pytest.mark.parametrize("name", ["linear", "performer"])
def test_hooks_see_all_that_is_kept_for_a_backward_pass(name, waiting):
    core = build_attention(name, Geometry(num_heads=8, head_dim=64, seq_len=256, causal=True))
    q, k, v = (torch.randn(1, 8, 256, 64, requires_grad=True) for _ in range(3))
    found = []
    for num_threads in (1, 2):
        torch.set_num_threads(num_threads)
        found.append(saved_for_backward_bytes(lambda: core(q, k, v), ()))
    assert found[0] == found[1] > 3 * q.numel() * 4


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork_starts_threads_of_its_own():
    code = """
import os, torch
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
from attentions import Geometry, build_attention
torch.set_num_threads(2)
core = build_attention("linear", Geometry(num_heads=4, head_dim=8, seq_len=1024))
q, k, v = torch.randn(3, 1, 4, 1024, 8).unbind()
expected = core(q, k, v)
child = os.fork()
if child == 0:
    os._exit(0 if torch.equal(core(q, k, v), expected) else 3)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


@pytest.mark.parametrize(
    ("is_intel", "number"),
    [(False, 2**18), (True, 2**16)],
)
def test_small_operators_are_done_by_one_thread_where_others_sleep(
    waiting, is_intel, number, monkeypatch
):
    monkeypatch.setattr(_engine_threads, "is_intel", lambda: is_intel)
    torch.set_num_threads(2)
    few, many = torch.empty(number), torch.empty(number + 1)
    with alone_if_few(few):
        assert torch.get_num_threads() == (1 if waiting == "sleep" else 2)
    with alone_if_few(few, many):
        assert torch.get_num_threads() == 2
    with alone_if_few(few, many, few=number + 1):
        assert torch.get_num_threads() == (1 if waiting == "sleep" else 2)
    assert torch.get_num_threads() == 2


class _NumThreads(TorchDispatchMode):
    """Notes how many threads torch has at each operator."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[int] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.seen.add(torch.get_num_threads())
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", ["none", "uniform", "linear_unnormalised"])
def test_the_cheapest_mechanisms_wake_nobody_for_little(name, sleeping, qkv):
    torch.set_num_threads(2)
    attention = build_attention(name, Geometry(num_heads=2, head_dim=64, seq_len=256))
    for length, expected in ((256, {1}), (8200, {2})):
        q, k, v = qkv(1, 2, length, 64)
        with _NumThreads() as threads:
            attention(q, k, v)
        assert threads.seen == expected
