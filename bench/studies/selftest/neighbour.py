"""The background load: matrix products and copies of 64 MiB on one core."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

_SIZE = 512
_PRODUCTS = 4
"""Matrix products between two copies, so that each kind takes about half of the time."""

_COPIED_BYTES = 64 * 2**20
_ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}


@contextmanager
def neighbour() -> Iterator[int]:
    """Run the load within a block, from the moment when it works; gives its process id.

    It never outlives this process.

    Raises:
        RuntimeError: it did not start.
    """
    with subprocess.Popen(
        [sys.executable, __file__, str(os.getpid())],
        env=os.environ | _ONE_THREAD,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        try:
            if not process.stdout.readline():
                raise RuntimeError("The background load did not start; its words are above.")
            yield process.pid
        finally:
            process.kill()


def work(parent: int) -> None:
    """Keep one core and the memory busy for as long as `parent` lives."""
    left = np.random.default_rng(0).random((_SIZE, _SIZE), dtype=np.float32)
    product = np.empty_like(left)
    source = np.zeros(_COPIED_BYTES, dtype=np.uint8)
    target = np.ones_like(source)
    print("ready", flush=True)
    while os.getppid() == parent:
        for _ in range(_PRODUCTS):
            np.matmul(left, left, out=product)
        np.copyto(target, source)


if __name__ == "__main__":
    work(int(sys.argv[1]))
