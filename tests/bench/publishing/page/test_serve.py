import socket
import struct
import sys
import threading
import time
import urllib.error
import urllib.request
from contextlib import suppress

import pytest

from bench.publishing.page.serve import LOOPBACK, PageServer

MODULE = "bench.publishing.page.serve"


@pytest.fixture
def server(tmp_path):
    (tmp_path / "secret").write_text("of others")
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "leaderboard.html").write_text("a page")
    (folder / "link").symlink_to(tmp_path / "secret")
    with PageServer(folder) as opened:
        thread = threading.Thread(target=opened.serve_forever, args=(0.01,))
        thread.start()
        yield opened
        opened.shutdown()
        thread.join()


def get(server, path, host=None):
    headers = {"Host": host} if host else {}
    request = urllib.request.Request(server.address + path, headers=headers)
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
        return answer.read().decode()


def test_the_page_is_served_on_loopback_only(server):
    assert server.server_address[0] == LOOPBACK
    assert get(server, "/leaderboard.html") == "a page"


@pytest.mark.parametrize(
    "path", ["/../secret", "/%2e%2e/secret", "/link", "/", "/nothing", "/%00", "/" + "x" * 5000]
)
def test_what_is_not_a_file_of_the_folder_is_not_served(server, path, capsys):
    with pytest.raises(urllib.error.HTTPError, match="404"):
        get(server, path)
    assert capsys.readouterr().err == ""


def test_a_request_under_another_name_is_refused(server):
    with pytest.raises(urllib.error.HTTPError, match="403"):
        get(server, "/leaderboard.html", host="evil.example")


def test_readers_that_hang_up_are_silent_or_slow_leave_no_word(
    server, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(sys.modules[MODULE]._Handler, "timeout", 0.2)
    monkeypatch.setattr(sys.modules[MODULE], "CONNECTION_S", 0.4)
    (tmp_path / "out" / "large").write_bytes(bytes(2**24))
    with socket.create_connection(server.server_address) as one:
        one.sendall(
            f"GET /large HTTP/1.0\r\nHost: {LOOPBACK}:{server.server_port}\r\n\r\n".encode()
        )
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with socket.create_connection(server.server_address, timeout=10) as silent:
        assert silent.recv(1) == b""
    with socket.create_connection(server.server_address, timeout=10) as slow:
        began = time.monotonic()
        with suppress(OSError):
            while time.monotonic() < began + 10:
                slow.sendall(b"x")
                time.sleep(0.05)
        assert time.monotonic() < began + 5
    assert get(server, "/leaderboard.html") == "a page"
    assert capsys.readouterr().err == ""
