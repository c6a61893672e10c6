"""A server that forks a worker for each pair of file descriptors it is sent."""

from __future__ import annotations

import array
import faulthandler
import os
import shutil
import signal
import socket
import tempfile
import traceback
from pathlib import Path

from bench.worker.answer import answer
from bench.worker.channel import Channel


def serve(control: socket.socket) -> None:
    """Fork a worker for each pair of file descriptors received; report exits when asked.

    Ends, and ends every worker, when the other side is gone.
    """
    children: set[int] = set()
    control.sendall(b"ready\n")
    while True:
        ancillary = socket.CMSG_LEN(2 * array.array("i").itemsize)
        message, fds, _, _ = control.recvmsg(64, ancillary)
        if not message:
            break
        if message.startswith(b"fork"):
            received = array.array("i")
            for _, _, data in fds:
                received.frombytes(data)
            pid = os.fork()
            if pid == 0:
                control.close()
                _become_child(list(received))
            for fd in received:
                os.close(fd)
            children.add(pid)
            control.sendall(f"{pid}\n".encode())
        else:
            pid = int(message.split()[1])
            _, status = os.waitpid(pid, 0)
            children.discard(pid)
            control.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    for pid in children:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    _discard_folder()


def _become_child(fds: list[int]) -> None:
    channel_fd, log_fd = fds
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


def _discard_folder() -> None:
    """Remove what the trials left for the rounds."""
    from bench.compiled import WORKERS_PREFIX

    folder = Path(tempfile.gettempdir(), f"{WORKERS_PREFIX}{os.getpid()}")
    shutil.rmtree(folder, ignore_errors=True)
