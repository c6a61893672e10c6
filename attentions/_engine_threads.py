"""Jobs over Python threads, each of which keeps torch to itself.

The engine's operators are small: split over torch's own threads, each would wait longer for the
others than it works. So where torch may use several threads, whole heads go to threads of Python,
and each of those runs its operators alone. Torch lets go of the interpreter while it works.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

J = TypeVar("J")
R = TypeVar("R")

_pools: dict[tuple[int, int], ThreadPoolExecutor] = {}
"""By process and number of threads: a fork has none of its parent's threads."""
_starting = threading.Lock()


def run_jobs(task: Callable[[J], R], jobs: Sequence[J]) -> list[R]:
    """The result of each job, in their order. Tasks run without gradients."""
    num_threads = torch.get_num_threads()
    if num_threads == 1 or _is_watched():
        with torch.set_grad_enabled(False):
            return [task(job) for job in jobs]
    inference = torch.is_inference_mode_enabled()

    def alone(job: J) -> R:
        # Both are properties of a thread, and are not handed on to another.
        with torch.inference_mode(inference), torch.no_grad():
            return task(job)

    return list(_pool(num_threads).map(alone, jobs))


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
