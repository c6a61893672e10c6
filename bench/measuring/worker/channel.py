"""Messages to and from a worker, JSON lines over its socket, and what its request names."""

from __future__ import annotations

import importlib.util
import json
import os
import select
import socket
import sys
from pathlib import Path
from types import ModuleType
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


Request = dict[str, Any]
"""Name of a job under ``job``, and its arguments."""

_ALIAS = "attentions_of_base"


def device_of(request: Request) -> str:
    """The device that a job runs on; all cells of a job have the same."""
    cells = [request.get("cell"), request.get("current"), *request.get("cells", ()), request]
    return str(next(cell["device"] for cell in cells if cell is not None))


def library_at(root: str | None) -> ModuleType | None:
    """Load the `attentions` package of the source tree at `root`; None stands for this tree's.

    It has another name, beside this tree's in the same process; its imports are relative.

    Raises:
        ImportError: there is none, or it does not import.
    """
    if root is None:
        return None
    if _ALIAS in sys.modules:
        return sys.modules[_ALIAS]
    folder = Path(root) / "attentions"
    spec = importlib.util.spec_from_file_location(
        _ALIAS, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    if spec is None or spec.loader is None or not (folder / "__init__.py").exists():
        raise ImportError(f"{root} has no package attentions")
    module = importlib.util.module_from_spec(spec)
    sys.modules[_ALIAS] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[_ALIAS]
        raise
    return module
