"""The parent's side of the workers: start the server, give out jobs, notice deaths and hangs."""

from __future__ import annotations

import array
import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from typing import Any

from bench.measure.clock import now_s

ALLOCATORS: dict[str, dict[str, str]] = {
    # Keep freed memory in the process: page faults on fresh temporaries cost as much as the
    # arithmetic, and how many there are depends on the heap's history.
    "retain": {"MALLOC_MMAP_THRESHOLD_": "33554432", "MALLOC_TRIM_THRESHOLD_": "4294967296"},
    "default": {},
}
_LOG_TAIL = 4000


class WorkerDied(Exception):
    """A worker ended without an answer. `exit_code` is negative for a signal."""

    def __init__(self, exit_code: int, last_words: str) -> None:
        self.exit_code = exit_code
        self.last_words = last_words
        if exit_code < 0:
            super().__init__(f"the worker was killed by {signal.Signals(-exit_code).name}")
        else:
            super().__init__(f"the worker ended with exit code {exit_code} and no answer")


class WorkerHung(Exception):
    """A worker said nothing for too long; it has been killed."""


class Worker:
    """One forked process and the socket to it."""

    def __init__(self, server: WorkerServer, pid: int, sock: socket.socket, log: Any) -> None:
        self._server = server
        self._sock = sock
        self._log = log
        self._buffer = b""
        self.pid = pid
        self.step = "start"

    def fileno(self) -> int:
        """For `select`."""
        return self._sock.fileno()

    def send(self, **message: Any) -> None:
        """One line; a worker that is gone already is noticed by the next `receive`."""
        with contextlib.suppress(OSError):
            self._sock.sendall(json.dumps(message).encode() + b"\n")

    def poll(self, timeout_s: float) -> dict[str, Any] | None:
        """The next message, or None if none came in `timeout_s`.

        Raises:
            WorkerDied: it ended instead.
        """
        deadline = now_s() + timeout_s
        while b"\n" not in self._buffer:
            left = max(0.0, deadline - now_s())
            if not select.select([self._sock], [], [], left)[0]:
                return None
            try:
                data = self._sock.recv(1 << 16)
            except ConnectionError:
                data = b""
            if not data:
                raise self._death()
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        self.step = message.get("step", self.step)
        return message

    def _death(self) -> WorkerDied:
        exit_code = self._server.wait(self.pid)
        self._log.seek(max(0, self._log.seek(0, os.SEEK_END) - _LOG_TAIL))
        words = self._log.read().decode(errors="replace")
        self._sock.close()
        self._log.close()
        return WorkerDied(exit_code, words)

    @property
    def has_line(self) -> bool:
        """Whether a message has been read from the socket already."""
        return b"\n" in self._buffer

    def close(self) -> None:
        """Reap a worker that has given its last answer."""
        self._server.wait(self.pid)
        self._sock.close()
        self._log.close()

    def kill(self) -> None:
        """End it now, with whatever it started."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            # It may not have become a group leader yet.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        self.close()


class WorkerServer:
    """A process with torch loaded that forks a worker in about 20 ms. A context manager."""

    def __init__(self, allocator: str = "retain") -> None:
        self.allocator = allocator
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    def __enter__(self) -> WorkerServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def environment(self) -> dict[str, str]:
        """What workers are started with, apart from what the user's environment says."""
        return dict(ALLOCATORS[self.allocator])

    def start(self) -> None:
        """Start the server if it is not running."""
        if self._process is not None and self._process.poll() is None:
            return
        ours, theirs = socket.socketpair()
        kept = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
        # The workers must find what this process finds, plug-ins in the current folder included.
        paths = os.pathsep.join(p or os.getcwd() for p in sys.path)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.worker", str(theirs.fileno())],
            env=kept | self.environment() | {"PYTHONPATH": paths},
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=None,
            start_new_session=True,  # Ctrl-C is for the parent, which stops the workers in order
        )
        theirs.close()
        self._control = ours
        if self._reply() != "ready":
            raise RuntimeError("The worker server did not start; its words are above.")

    def spawn(self, **request: Any) -> Worker:
        """Fork a worker and give it a job."""
        self.start()
        assert self._control is not None
        ours, theirs = socket.socketpair()
        log = tempfile.TemporaryFile()  # noqa: SIM115  # lives as long as the worker
        fds = array.array("i", [theirs.fileno(), log.fileno()])
        self._control.sendmsg([b"fork"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
        pid = int(self._reply())
        theirs.close()
        worker = Worker(self, pid, ours, log)
        worker.send(**request)
        return worker

    def wait(self, pid: int) -> int:
        """A worker's exit code; waits for its end."""
        assert self._control is not None
        self._control.sendall(f"wait {pid}".encode())
        return int(self._reply())

    def stop(self) -> None:
        """End the server and every worker."""
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None:
            self._process.wait()
            self._process = None

    def _reply(self) -> str:
        assert self._control is not None
        line = b""
        while not line.endswith(b"\n"):
            data = self._control.recv(64)
            if not data:
                self.stop()
                raise RuntimeError("The worker server ended unexpectedly; its words are above.")
            line += data
        return line.decode().strip()
