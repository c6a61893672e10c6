"""Imports and start-up shared by all workers, done once, in the server."""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
from collections.abc import Iterator

_OF_JOBS = (
    "bench.measuring.measure.latency",
    "bench.measuring.measure.load",
    "bench.measuring.measure.memory",
    "bench.measuring.measure.roofline",
    "bench.measuring.costs.estimate",
    "bench.measuring.oracle.checking",
    "bench.measuring.worker.turns",
)
"""Modules that trials and rounds import; without preloading, they take 0.1 s of each worker."""


def preload() -> None:
    """Import the modules that workers use, and run once what is slow on its first use."""
    import fvcore.nn  # noqa: F401  # 0.1 s
    import torch

    from bench.measuring.worker.imports import import_installed

    torch.set_num_threads(1)
    # The profiler's first use in a process takes a second, and some builds print a line about it.
    # It loads parts of torch that replace others, so it comes before plugins are watched for that.
    with quiet_stderr(), torch.profiler.profile(profile_memory=True):
        torch.ones(1)
    import_installed()
    for name in _OF_JOBS:
        importlib.import_module(name)
    # Garbage collection in a worker would visit all these objects, 0.16 s, and copy their pages.
    gc.collect()
    gc.freeze()


@contextlib.contextmanager
def quiet_stderr() -> Iterator[None]:
    """Discard output on file descriptor 2, also by code below Python."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
