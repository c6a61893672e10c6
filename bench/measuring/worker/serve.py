"""A server that forks a worker for each pair of file descriptors it is sent."""

from __future__ import annotations

import array
import contextlib
import faulthandler
import os
import select
import shutil
import signal
import socket
import traceback

from bench.core.cli.temporary import workers_folder
from bench.measuring.worker.answer import answer
from bench.measuring.worker.channel import Channel
from bench.measuring.worker.processes import adopt_orphans, end_descendants, end_with

_TICK_S = 0.002
"""Seconds between two checks whether a worker has ended."""


def serve(control: socket.socket) -> None:
    """Fork a worker for each pair of file descriptors received; report exit codes on request.

    When the other side is gone, kills every worker with all that it has started, and returns.
    """
    adopt_orphans()
    workers_folder()  # cached for the forks, whatever a plugin does to their environment
    workers: set[int] = set()
    with contextlib.suppress(OSError):  # the other side is gone
        control.sendall(b"ready\n")
        while _answer_one(control, workers):
            pass
    for pid in list(workers):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        workers.discard(pid)
        end_descendants(pid, workers)
    # what trials left for the rounds; the parent may be gone
    shutil.rmtree(workers_folder(), ignore_errors=True)


def _answer_one(control: socket.socket, workers: set[int]) -> bool:
    """Answer the next request; False if the other side is gone."""
    ancillary = socket.CMSG_LEN(2 * array.array("i").itemsize)
    message, fds, _, _ = control.recvmsg(64, ancillary)
    if message.startswith(b"fork"):
        received = array.array("i")
        for _, _, data in fds:
            received.frombytes(data)
        pid = _fork(control, list(received))
        for fd in received:
            os.close(fd)
        workers.add(pid)
        control.sendall(f"{pid}\n".encode())
    elif message.startswith(b"wait"):
        pid = int(message.split()[1])
        exit_code = _wait(pid, control)
        if exit_code is None:
            return False
        workers.discard(pid)
        end_descendants(pid, workers)
        control.sendall(f"{exit_code}\n".encode())
    return bool(message)


def _wait(pid: int, control: socket.socket) -> int | None:
    """Wait for a worker; returns its exit code, or None if the other side is gone before."""
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if select.select([control], [], [], _TICK_S)[0]:  # no request comes before the answer
            return None


def _fork(control: socket.socket, fds: list[int]) -> int:
    server = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            end_with(server)
            control.close()
            _become_worker(*fds)
        finally:
            os._exit(1)
    return pid


def _become_worker(channel_fd: int, log_fd: int) -> None:
    os.setsid()
    os.dup2(log_fd, 1)
    os.dup2(log_fd, 2)
    faulthandler.enable(file=2)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    channel = Channel(socket.socket(fileno=channel_fd))
    try:
        channel.send(**answer(channel.read(), channel).to_message())
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)
