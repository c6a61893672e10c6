"""The parent's side of workers: start the server, fork workers, notice their death."""

from __future__ import annotations

import array
import contextlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from bench.core.cli.temporary import WORKERS_FOLDER, new_log, new_workers_folder
from bench.core.clock import now_s
from bench.measuring.worker.messages import Message, NoMessage, message_from
from bench.measuring.worker.processes import adopt_orphans, children, end_orphans, ends_within

ALLOCATORS: dict[str, dict[str, str]] = {
    # Keep freed memory in the process: page faults on fresh temporaries cost as much as the
    # arithmetic, and their number depends on the heap's history.
    "retain": {"MALLOC_MMAP_THRESHOLD_": "33554432", "MALLOC_TRIM_THRESHOLD_": "4294967296"},
    "default": {},
}
SERVER_MODULE = "bench.measuring.worker"

PATIENCE_S = 30.0
"""Seconds without an answer after which a server counts as dead; it answers in milliseconds."""

_START_PATIENCE_S = 300.0
_ENDING_S = 10.0
"""Seconds that a worker may take to end once its socket is closed."""

_MAX_LINE_BYTES = 2**22
"""Largest number of bytes of a message whose end has not come; ours are short."""

_LOG_TAIL = 4000

_SERVERS: set[int] = set()
"""Process ids of the running servers of this process."""

_STARTING = threading.Lock()
"""Held while a server starts, so that it is not taken for another one's orphan."""


class WorkerDied(Exception):
    """A worker ended without an answer; the message says how. Any exchange with one may raise it.

    Attributes:
        exit_code: negative for a signal; None if it is unknown.
    """

    def __init__(self, how: str, exit_code: int | None = None, last_words: str = "") -> None:
        super().__init__(how)
        self.exit_code = exit_code
        self.last_words = last_words


class WorkerHung(Exception):
    """A worker sent no message for too long, or took too long as a whole."""


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
        """File descriptor of the socket, for `select`."""
        return self._sock.fileno()

    def send(self, **message: Any) -> None:
        """Send one line; if the worker is gone already, the next `poll` raises.

        Raises:
            WorkerDied: it was killed, because it reads nothing of what it is sent.
        """
        try:
            self._sock.sendall(json.dumps(message).encode() + b"\n")
        except TimeoutError:
            self.kill()
            raise WorkerDied("the worker did not read what it was sent") from None
        except OSError:
            pass

    def poll(self, timeout_s: float) -> Message | None:
        """The next message, or None if none came in `timeout_s`.

        Raises:
            WorkerDied: it ended instead, or was killed for an invalid message.
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
            if len(self._buffer) > _MAX_LINE_BYTES:
                self.kill()
                raise WorkerDied(str(NoMessage("it has no end")))
        line, _, self._buffer = self._buffer.partition(b"\n")
        try:
            message = message_from(line)
        except NoMessage as error:
            self.kill()
            raise WorkerDied(str(error)) from None
        self.step = message.get("step", self.step)
        return message

    def _death(self) -> WorkerDied:
        if not ends_within(self.pid, _ENDING_S):
            self.kill()
            return WorkerDied("the worker closed its socket and went on")
        with self._log, self._sock:
            exit_code = self._server.wait(self.pid)
            self._log.seek(max(0, self._log.seek(0, os.SEEK_END) - _LOG_TAIL))
            words = self._log.read().decode(errors="replace")
        if exit_code < 0:
            how = f"the worker was killed by {_name_of(-exit_code)}"
        else:
            how = f"the worker ended with exit code {exit_code} and no answer"
        return WorkerDied(how, exit_code, words)

    @property
    def has_line(self) -> bool:
        """Whether a message has been read from the socket already."""
        return b"\n" in self._buffer

    def close(self) -> None:
        """Reap a worker that has sent its last message.

        Raises:
            WorkerDied: the server that should reap it is gone, or does not answer.
        """
        with self._log, self._sock:
            self._server.wait(self.pid)

    def kill(self) -> None:
        """Kill the worker, with all that it started."""
        self._server.kill(self.pid)
        with contextlib.suppress(WorkerDied):
            self.close()


def _name_of(number: int) -> str:
    """Name of a signal, or its number, as most real-time signals have no name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


class WorkerServer:
    """A process with torch loaded that forks a worker in about 20 ms. A context manager.

    A server that ends, or does not answer for `PATIENCE_S`, is replaced when the next worker is
    forked; its workers end with it.
    """

    def __init__(self, allocator: str = "retain") -> None:
        self.allocator = allocator
        self._workers: set[int] = set()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._folder: Path | None = None
        self._others: set[int] = set()
        self._has_greeted = False

    def __enter__(self) -> WorkerServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def environment(self) -> dict[str, str]:
        """Environment variables that workers start with, beside the user's own."""
        return dict(ALLOCATORS[self.allocator])

    def launch(self) -> None:
        """Begin to start the server, which takes seconds; `start` waits for it."""
        self.stop()
        ours, theirs = socket.socketpair()
        kept = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
        # The workers must find what this process finds, plug-ins in the current folder included.
        paths = os.pathsep.join(p or os.getcwd() for p in sys.path)
        adopt_orphans()  # of a server that is killed
        self._folder = new_workers_folder()
        told = {"PYTHONPATH": paths, WORKERS_FOLDER: str(self._folder)}
        given = (theirs.fileno(), os.getpid())
        with _STARTING:
            self._others = children()
            self._process = subprocess.Popen(
                # -P: a bench/ in the current folder is not ours, and paths has what is.
                [sys.executable, "-P", "-m", SERVER_MODULE, *map(str, given)],
                env=kept | self.environment() | told,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=None,
                start_new_session=True,  # Ctrl-C is for the parent, which stops them in order
            )
            _SERVERS.add(self._process.pid)
        theirs.close()
        self._control = ours

    def start(self) -> None:
        """Start the server if it is not running, and wait for it; tries twice.

        Raises:
            RuntimeError: it did not start.
        """
        is_running = self._process is not None and self._process.poll() is None
        if is_running and self._has_greeted:
            return
        try:
            if not is_running:
                self.launch()
            self._wait_for_greeting()
        except WorkerDied:
            try:
                self.launch()
                self._wait_for_greeting()
            except WorkerDied as error:
                raise RuntimeError(
                    "The worker server did not start; its words are above."
                ) from error

    def _wait_for_greeting(self) -> None:
        self._reply(_START_PATIENCE_S)
        self._has_greeted = True

    def spawn(self, **request: Any) -> Worker:
        """Fork a worker and give it a job.

        Raises:
            ConfigError: there is no temporary folder any more, or it is full.
            WorkerDied: the server ended, and so did a new one.
        """
        ours, theirs = socket.socketpair()
        ours.settimeout(PATIENCE_S)  # a worker that reads nothing is not waited for
        log = new_log()  # lives as long as the worker
        with theirs:
            fds = array.array("i", [theirs.fileno(), log.fileno()])
            try:
                pid = self._fork(fds)
            except WorkerDied:  # an earlier worker may have ended the server
                pid = self._fork(fds)
        worker = Worker(self, pid, ours, log)
        worker.send(**request)
        return worker

    def _fork(self, fds: array.array[int]) -> int:
        self.start()
        pid = int(self._ask(b"fork", [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)]))
        self._workers.add(pid)
        return pid

    def wait(self, pid: int) -> int:
        """Wait for a worker's end; returns its exit code.

        Raises:
            WorkerDied: the server that forked it is gone or does not answer; the worker is gone
                with it.
        """
        if pid not in self._workers:
            raise _server_died()
        exit_code = int(self._ask(f"wait {pid}".encode()))
        self._workers.discard(pid)
        return exit_code

    def kill(self, pid: int) -> None:
        """Kill a worker and its process group; `wait` must follow."""
        if pid not in self._workers:
            return
        try:
            os.killpg(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            # It may not have become a group leader yet.
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def stop(self) -> None:
        """End the server and every worker."""
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None:
            if not self._has_greeted:  # it is loading, and has no workers
                self._process.kill()
            try:
                self._process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
            ended_well = self._process.wait() == 0
            with _STARTING:
                _SERVERS.discard(self._process.pid)
                if not ended_well:  # then it has not ended what its workers started
                    end_orphans(self._others | _SERVERS)
            self._process = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None
        self._workers.clear()
        self._has_greeted = False

    def _ask(self, words: bytes, ancillary: Sequence[Any] = ()) -> str:
        if self._control is None:
            raise _server_died()
        try:
            self._control.sendmsg([words], ancillary)
        except OSError:
            self._lose()
        return self._reply(PATIENCE_S)

    def _reply(self, patience_s: float) -> str:
        assert self._control is not None
        self._control.settimeout(patience_s)
        line = b""
        while not line.endswith(b"\n"):
            try:
                data = self._control.recv(64)
            except OSError:
                data = b""
            if not data:
                self._lose()
            line += data
        return line.decode().strip()

    def _lose(self) -> NoReturn:
        """Give up a server that is gone or does not answer."""
        if self._process is not None:
            self._process.kill()
        self.stop()
        raise _server_died()


def _server_died() -> WorkerDied:
    return WorkerDied("the server that forks the workers was ended or stopped")
