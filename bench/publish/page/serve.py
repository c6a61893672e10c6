"""A page over HTTP for the reader at this machine: on loopback, and from one folder."""

from __future__ import annotations

import webbrowser
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

LOOPBACK = "127.0.0.1"


class PageServer(ThreadingHTTPServer):
    """Serves the files of a folder on a free port of loopback."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__((LOOPBACK, 0), partial(_Handler, directory=str(folder)))

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"http://{LOOPBACK}:{self.server_port}"


class _Handler(SimpleHTTPRequestHandler):
    """Files of its folder, to requests that name this server and no other."""

    def send_head(self) -> Any:
        """Refuse what is not in the folder, and what a page of another site asks for."""
        assert isinstance(self.server, PageServer)
        port = self.server.server_port
        if self.headers.get("Host") not in (f"{LOOPBACK}:{port}", f"localhost:{port}"):
            self.send_error(HTTPStatus.FORBIDDEN)
            return None
        folder = Path(self.directory).resolve()
        path = Path(self.translate_path(self.path)).resolve()  # a link may lead out of it
        if not path.is_relative_to(folder) or not path.is_file():
            self.send_error(HTTPStatus.NOT_FOUND)
            return None
        return super().send_head()

    def end_headers(self) -> None:
        """Nothing is guessed, kept or framed."""
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("X-Frame-Options", "DENY")
        self.send_header("Cache-Control", "no-store")
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Silent: the terminal is the reader's."""


def serve(page: Path, say: Callable[[str], None], *, is_terminal: bool) -> None:
    """Serve a page and what lies beside it until Ctrl-C; open it where somebody sits there."""
    with PageServer(page.parent) as server:
        address = f"{server.address}/{page.name}"
        say(f"{address}  (on this machine only; Ctrl-C ends it)")
        if is_terminal:
            webbrowser.open(address)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return
