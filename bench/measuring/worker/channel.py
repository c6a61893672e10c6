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
        self._is_stop_heard = False

    def send(self, **message: Any) -> None:
        """Send one line; the process exits if the parent is gone."""
        try:
            self._sock.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            os._exit(1)

    def read(self) -> dict[str, Any]:
        """Read the next line; the process exits if the parent is gone."""
        request: dict[str, Any] = json.loads(self._line())
        return request

    def ask(self, **message: Any) -> None:
        """Send a line, and wait until the parent confirms it."""
        self.send(**message, waits=True)
        while b"heard" not in self._line():
            self._is_stop_heard = True  # the parent may have requested a stop just before

    def _line(self) -> bytes:
        """The next line; what follows it stays in the socket, where `is_stop_asked` looks."""
        line = b""
        while not line.endswith(b"\n"):
            seen = self._sock.recv(1 << 16, socket.MSG_PEEK)
            if not seen:
                os._exit(1)
            line += self._sock.recv(seen.find(b"\n") + 1 or len(seen))
        return line

    def is_stop_asked(self) -> bool:
        """Whether the parent has requested a stop, or is gone."""
        return self._is_stop_heard or bool(select.select([self._sock], [], [], 0)[0])
