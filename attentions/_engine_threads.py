"""Several threads for the engine: they share each operator, or each has jobs of its own.

The engine's operators are small. Torch's own threads share them well as long as they spin between
one operator and the next, which is how they come. Told to sleep instead (``OMP_WAIT_POLICY``), it
takes longer to wake them than to compute; then jobs go to threads of Python, each of which runs its
operators alone. Torch lets go of the interpreter while it works.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

from ._engine_tiles import Job

R = TypeVar("R")

_FEW = 2048
"""So many tokens, counted over heads, are computed before other threads have woken up."""

_pools: dict[tuple[int, int], ThreadPoolExecutor] = {}
"""By process and number of threads: a fork has none of its parent's threads."""
_starting = threading.Lock()


def threads_sleep() -> bool:
    """Whether torch's threads sleep while they wait. OpenMP reads this once, at its start."""
    return os.environ.get("OMP_WAIT_POLICY", "").strip().upper() == "PASSIVE"


def run_jobs(task: Callable[[Job], R], jobs: Sequence[Job]) -> list[R]:
    """The result of each job, in their order. Tasks run without gradients."""
    num_threads = torch.get_num_threads()
    if num_threads == 1 or not threads_sleep() or _is_watched():
        return _one_by_one(task, jobs)
    if len(jobs) == 1 or sum(job.num_tokens() for job in jobs) <= _FEW:
        with _one_thread():
            return _one_by_one(task, jobs)
    inference = torch.is_inference_mode_enabled()

    def alone(job: Job) -> R:
        # Both are properties of a thread, and are not handed on to another.
        with torch.inference_mode(inference), torch.no_grad():
            return task(job)

    return list(_pool(num_threads).map(alone, jobs))


def _one_by_one(task: Callable[[Job], R], jobs: Sequence[Job]) -> list[R]:
    with torch.set_grad_enabled(False):
        return [task(job) for job in jobs]


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    # A thread of the caller's whose first operator runs just now would keep this number.
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)


def _is_watched() -> bool:
    """Whether this thread counts or intercepts operators: those of other threads would escape."""
    return torch._C._len_torch_dispatch_stack() + torch._C._len_torch_function_stack() > 0


def _pool(num_threads: int) -> ThreadPoolExecutor:
    key = (os.getpid(), num_threads)
    if key not in _pools:
        with _starting:
            if key not in _pools:
                _pools[key] = _started(num_threads)
    return _pools[key]


def _started(num_threads: int) -> ThreadPoolExecutor:
    pool = ThreadPoolExecutor(num_threads, "attention", initializer=_keep_to_one_thread)
    all_there = threading.Barrier(num_threads)
    for ready in [pool.submit(all_there.wait) for _ in range(num_threads)]:
        ready.result()
    # What a thread sets for itself torch also gives to threads that are yet to come.
    torch.set_num_threads(num_threads)
    return pool


def _keep_to_one_thread() -> None:
    torch.get_num_threads()  # a thread's first operator would set the number anew
    torch.set_num_threads(1)
