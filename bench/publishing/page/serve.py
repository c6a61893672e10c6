"""Serve a page over HTTP to this machine only: on loopback, from one folder."""

from __future__ import annotations

import socket
import sys
import threading
import webbrowser
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

LOOPBACK = "127.0.0.1"

CONNECTION_S = 60.0
"""Seconds after which a connection is closed, whatever its client does."""

IDLE_S = 10.0
"""Seconds that a client may be silent."""

_POLICY = (
    "default-src 'self' 'unsafe-inline' data: blob:; object-src 'none'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
"""Nothing is fetched from elsewhere or sent there; the page itself allows less."""


class PageServer(ThreadingHTTPServer):
    """Serves the files of a folder on a free port of loopback."""

    daemon_threads = True
    block_on_close = False  # Ctrl-C does not wait for clients

    def __init__(self, folder: Path) -> None:
        super().__init__((LOOPBACK, 0), partial(_Handler, directory=str(folder)))

    @property
    def address(self) -> str:
        """URL of the server."""
        return f"http://{LOOPBACK}:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that disconnect or are too slow; report anything else."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class _Handler(SimpleHTTPRequestHandler):
    """Serves files of its folder to requests whose host is this server."""

    timeout = IDLE_S

    def setup(self) -> None:
        """Start a timer that ends the connection after `CONNECTION_S`."""
        super().setup()
        self._end = threading.Timer(CONNECTION_S, self._hang_up)
        self._end.daemon = True
        self._end.start()

    def finish(self) -> None:
        """Cancel the timer."""
        self._end.cancel()
        super().finish()

    def _hang_up(self) -> None:
        with suppress(OSError):  # it is closed already
            self.connection.shutdown(socket.SHUT_RDWR)

    def send_head(self) -> Any:
        """Refuse files outside of the folder, and requests by pages of other sites."""
        assert isinstance(self.server, PageServer)
        port = self.server.server_port
        if self.headers.get("Host") not in (f"{LOOPBACK}:{port}", f"localhost:{port}"):
            self.send_error(HTTPStatus.FORBIDDEN)
            return None
        if not self._is_ours():
            self.send_error(HTTPStatus.NOT_FOUND)
            return None
        return super().send_head()

    def _is_ours(self) -> bool:
        """Whether the requested file is in the folder; a link may lead out of it."""
        try:
            path = Path(self.translate_path(self.path)).resolve()
            return path.is_relative_to(Path(self.directory).resolve()) and path.is_file()
        except (OSError, ValueError):  # a name that is too long, or contains a null character
            return False

    def end_headers(self) -> None:
        """Forbid content sniffing, caching and framing."""
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("X-Frame-Options", "DENY")
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Security-Policy", _POLICY)
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: the terminal is the user's."""


def serve(page: Path, say: Callable[[str], None], *, is_terminal: bool) -> None:
    """Serve a page and the files beside it until Ctrl-C; open a browser if `is_terminal`."""
    with PageServer(page.parent) as server:
        address = f"{server.address}/{page.name}"
        say(f"{address}  (on this machine only; Ctrl-C ends it)")
        if is_terminal:
            webbrowser.open(address)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return
