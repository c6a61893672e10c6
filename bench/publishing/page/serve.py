"""Serve the folder of a page over HTTP to this machine only, on loopback."""

from __future__ import annotations

import sys
import webbrowser
from collections.abc import Callable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

LOOPBACK = "127.0.0.1"


class PageServer(ThreadingHTTPServer):
    """Serves the files of a folder on a free port of loopback."""

    block_on_close = False  # Ctrl-C does not wait for clients

    def __init__(self, folder: Path) -> None:
        super().__init__((LOOPBACK, 0), partial(_Handler, directory=str(folder)))

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that disconnect; report anything else."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class _Handler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: the terminal is the user's."""


def serve(page: Path, say: Callable[[str], None], *, is_terminal: bool) -> None:
    """Serve a page and the files beside it until Ctrl-C; open a browser if `is_terminal`."""
    with PageServer(page.parent) as server:
        address = f"http://{LOOPBACK}:{server.server_port}/{page.name}"
        say(f"{address}  (on this machine only; Ctrl-C ends it)")
        if is_terminal:
            webbrowser.open(address)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return
