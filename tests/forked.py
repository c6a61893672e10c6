"""A call in a fork of this process: what it imports, registers and prints stays there."""

import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch


def forked(call: Callable[[], object], folder: Path, **environment: str) -> str:
    """Call something in a folder, and return all that it printed.

    A new Python would take two seconds of a core to load torch. An exit code, or an exception,
    fails.
    """
    with tempfile.TemporaryFile("w+") as said:

        def child() -> None:
            os.dup2(said.fileno(), 1)
            os.dup2(said.fileno(), 2)
            sys.stdout = sys.stderr = said
            os.chdir(folder)
            os.environ.update(environment)
            torch.set_num_threads(1)  # a pool of threads does not outlive a fork
            call()

        process = multiprocessing.get_context("fork").Process(target=child)
        process.start()
        process.join()
        said.seek(0)
        printed = said.read()
    assert process.exitcode == 0, printed
    return printed
