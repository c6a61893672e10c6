"""Messages to and from a worker: JSON lines over its socket."""

from __future__ import annotations

import json
import os
import select
import socket
from typing import Any


class Channel:
    """JSON lines over a socket."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._lines = sock.makefile("rb")
        self._is_stop_heard = False

    def send(self, **message: Any) -> None:
        """Send one line; the process exits if the parent is gone."""
        try:
            self._sock.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            os._exit(1)

    def read(self) -> dict[str, Any]:
        """Read the next line; the process exits if the parent is gone."""
        line = self._lines.readline()
        if not line:
            os._exit(1)
        request: dict[str, Any] = json.loads(line)
        return request

    def ask(self, **message: Any) -> None:
        """Send a line, and wait until the parent confirms it."""
        self.send(**message, waits=True)
        while b"heard" not in self._read_no_further():
            self._is_stop_heard = True  # the parent may have requested a stop just before

    def _read_no_further(self) -> bytes:
        """The next line, read byte by byte so that nothing after it is consumed."""
        line = b""
        while not line.endswith(b"\n"):
            byte = self._sock.recv(1)
            if not byte:
                os._exit(1)
            line += byte
        return line

    def is_stop_asked(self) -> bool:
        """Whether the parent has requested a stop, or is gone."""
        return self._is_stop_heard or bool(select.select([self._sock], [], [], 0)[0])
