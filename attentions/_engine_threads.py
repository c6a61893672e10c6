"""Several threads for the engine: they share each operator, or each takes whole jobs.

The engine's operators are small. Torch's own threads share them well as long as they spin between
one operator and the next, which is how they come. Told to sleep instead (``OMP_WAIT_POLICY``), it
takes longer to wake them than to compute; then jobs go to threads of Python, each of which runs its
operators alone. Torch lets go of the interpreter while it works.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from typing import TypeVar

import torch
from torch import Tensor

from ._engine_processor import is_intel

J = TypeVar("J")
R = TypeVar("R")

_POLICY = os.environ.get("OMP_WAIT_POLICY", "").strip().upper()
"""OpenMP reads it once as well, at its start."""

_pools: dict[tuple[int, int], ThreadPoolExecutor] = {}
"""By process and number of threads: a fork has none of its parent's threads."""
_starting = threading.Lock()


def threads_sleep() -> bool:
    """Whether torch's threads sleep while they wait."""
    return _POLICY == "PASSIVE"


NUM_FEW = 2**18
"""So many elements take less time than a sleeping thread needs to wake up.

Of one operator, or features of a whole call. Waking takes longer on some machines than on others of
the same processor, and this is for slow ones: there a second thread would cost time, elsewhere it
would save little.
"""


def num_few_shared() -> int:
    """The same where torch's threads share each operator: Intel's were found to wake up sooner."""
    return 2**16 if is_intel() else NUM_FEW


def work_apart() -> bool:
    """Whether threads have jobs of their own here, rather than parts of each operator."""
    return torch.get_num_threads() > 1 and threads_sleep() and not _is_watched()


class Sharing(Enum):
    """Who does what, where torch's threads sleep between operators."""

    NONE = "this thread alone does all jobs: others would have to wake up"
    OPERATORS = "torch's threads share the operators of one job after the other"
    JOBS = "each thread takes jobs"


def nothing() -> None:
    """What a thread holds that holds nothing."""


def run_jobs(
    task: Callable[[J], R],
    jobs: Sequence[J],
    *,
    sharing: Sharing = Sharing.JOBS,
    held: Callable[[], object] = nothing,
) -> list[R]:
    """The result of each job, in their order. Tasks run without gradients.

    Args:
        task: what is done with a job.
        jobs: independent of each other.
        sharing: what several threads do.
        held: made by each thread before its first job, and let go after its last one.
    """
    if not work_apart() or sharing is Sharing.OPERATORS:
        return _one_by_one(task, jobs, held)
    num_threads = torch.get_num_threads()
    with _OneThread():
        if sharing is Sharing.NONE or len(jobs) == 1:
            return _one_by_one(task, jobs, held)
        return _shared_out(task, jobs, num_threads, held)


def alone_if_threads_sleep() -> contextlib.AbstractContextManager[None]:
    """A block for small operators: MKL wakes all threads even for the logarithms of 256 numbers."""
    if torch.get_num_threads() > 1 and threads_sleep():
        return _OneThread()
    return contextlib.nullcontext()


def alone_if_few(
    *tensors: Tensor, few: int | None = None
) -> contextlib.AbstractContextManager[None]:
    """The same for operators on tensors of at most ``few`` elements, or `num_few_shared`."""
    if torch.compiler.is_compiling():
        return contextlib.nullcontext()
    if max(x.numel() for x in tensors) > (num_few_shared() if few is None else few):
        return contextlib.nullcontext()
    return alone_if_threads_sleep()


def _one_by_one(task: Callable[[J], R], jobs: Sequence[J], held: Callable[[], object]) -> list[R]:
    with torch.set_grad_enabled(False):
        block = held()
        results = [task(job) for job in jobs]
        del block
        return results


def _shared_out(
    task: Callable[[J], R], jobs: Sequence[J], num_threads: int, held: Callable[[], object]
) -> list[R]:
    """By the caller and the pool.

    The caller takes part because it is awake: of two threads that it wakes, the system may put both
    on one core, and leave them there for as long as a call takes.
    """
    inference = torch.is_inference_mode_enabled()
    waiting, done = deque(enumerate(jobs)), {}

    def work() -> None:
        # Both are properties of a thread, and are not handed on to another.
        with torch.inference_mode(inference), torch.no_grad():
            block = held()
            while waiting:
                try:
                    index, job = waiting.popleft()
                except IndexError:
                    break
                done[index] = task(job)
            del block

    pool = _pool(num_threads - 1)
    others = [pool.submit(work) for _ in range(min(num_threads, len(jobs)) - 1)]
    try:
        work()
    finally:
        waiting.clear()  # empty, unless this thread's job failed
        errors = [other.exception() for other in others]
    for error in errors:
        if error is not None:
            raise error
    return [done[index] for index in range(len(jobs))]


class _OneThread(contextlib.AbstractContextManager[None]):
    """A block in which torch has one thread.

    A class, as a generator would take several times as long to enter and leave. A thread of the
    caller's whose first operator runs just then would keep this number.
    """

    def __enter__(self) -> None:
        self._num_threads = torch.get_num_threads()
        torch.set_num_threads(1)

    def __exit__(self, *_: object) -> None:
        torch.set_num_threads(self._num_threads)


def _is_watched() -> bool:
    """Whether this thread counts or intercepts operators, or what they keep for a backward pass.

    What other threads do would escape.
    """
    num_modes = torch._C._len_torch_dispatch_stack() + torch._C._len_torch_function_stack()
    return num_modes > 0 or torch._C._autograd._top_saved_tensors_default_hooks(True) is not None


def _pool(num_threads: int) -> ThreadPoolExecutor:
    key = (os.getpid(), num_threads)
    if key not in _pools:
        with _starting:
            if key not in _pools:
                _pools[key] = ThreadPoolExecutor(
                    num_threads, "attention", initializer=_keep_to_one_thread
                )
    return _pools[key]


def _keep_to_one_thread() -> None:
    torch.get_num_threads()  # a thread's first operator would set the number anew
    torch.set_num_threads(1)
