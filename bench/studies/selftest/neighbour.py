"""The background load: matrix products and copies of 64 MiB on one core."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np

_SIZE = 512
_PRODUCTS = 4
"""Matrix products between two copies, so that each kind takes about half of the time."""

_COPIED_BYTES = 64 * 2**20
_ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}


class Neighbour:
    """The background load, on and off. A context manager; it never outlives this process."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Neighbour:
        return self

    def __exit__(self, *_: object) -> None:
        self.switch(False)

    @property
    def is_busy(self) -> bool:
        """True while the load runs."""
        return self._process is not None and self._process.poll() is None

    def switch(self, is_on: bool) -> None:
        """Start the load and wait until it works, or stop it.

        Raises:
            RuntimeError: it did not start.
        """
        if is_on and not self.is_busy:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(os.getpid())],
                env=os.environ | _ONE_THREAD,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                start_new_session=True,
            )
            assert self._process.stdout is not None
            if not self._process.stdout.readline():
                raise RuntimeError("The background load did not start; its words are above.")
        elif not is_on and self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


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
