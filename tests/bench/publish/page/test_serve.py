from __future__ import annotations

import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.publish.page.serve import LOOPBACK, PageServer


@pytest.fixture
def server(tmp_path: Path) -> Iterator[PageServer]:
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


def get(server: PageServer, path: str, host: str | None = None) -> str:
    headers = {"Host": host} if host else {}
    request = urllib.request.Request(server.address + path, headers=headers)
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        return answer.read().decode()


def test_the_page_is_served_on_loopback_only(server: PageServer) -> None:
    assert server.server_address[0] == LOOPBACK
    assert get(server, "/leaderboard.html") == "a page"


@pytest.mark.parametrize("path", ["/../secret", "/%2e%2e/secret", "/link", "/", "/nothing"])
def test_what_is_not_a_file_of_the_folder_is_not_served(server: PageServer, path: str) -> None:
    with pytest.raises(urllib.error.HTTPError, match="404"):
        get(server, path)


def test_a_request_under_another_name_is_refused(server: PageServer) -> None:
    with pytest.raises(urllib.error.HTTPError, match="403"):
        get(server, "/leaderboard.html", host="evil.example")
