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
"""Modules that trials and rounds import: 0.1 s of each worker."""


def preload() -> None:
    """Import what workers use, and use once what is slow the first time."""
    import fvcore.nn  # noqa: F401  # 0.1 s
    import torch

    from bench.measuring.worker.imports import import_installed

    torch.set_num_threads(1)
    # Its first use in a process takes a second, and some builds print a line about it. It loads
    # parts of torch that replace others, so it comes before anybody looks at these.
    with quiet_stderr(), torch.profiler.profile(profile_memory=True):
        torch.ones(1)
    import_installed()
    for name in _OF_JOBS:
        importlib.import_module(name)
    # A worker that collects garbage would look at all of it again, 0.16 s, and copy its pages.
    gc.collect()
    gc.freeze()


@contextlib.contextmanager
def quiet_stderr() -> Iterator[None]:
    """Nothing reaches the terminal from below Python."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
