"""One server of workers for all tests of a process: starting one takes three seconds of a core."""

from __future__ import annotations

from typing import Any

from bench.measuring.worker.launch import WorkerServer


class Kept(WorkerServer):
    """A server that one command uses after the other: launched once."""

    def launch(self) -> None:
        if self._process is None or self._process.poll() is not None:
            super().launch()

    def lent(self, allocator: str = "retain") -> Lent:
        """The server to a command that would start its own; `allocator` must be this one's."""
        assert allocator == self.allocator
        return Lent(self)


class Lent:
    """A server that outlives who uses it."""

    def __init__(self, server: Kept) -> None:
        self._server = server

    def __enter__(self) -> Kept:
        return self._server

    def __exit__(self, *_: object) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        return getattr(self._server, name)

    def stop(self) -> None:
        """Leave it running."""
