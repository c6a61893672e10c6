import threading
import urllib.request

import pytest

from bench.publishing.page.serve import LOOPBACK, PageServer


@pytest.fixture
def server(tmp_path):
    (tmp_path / "secret").write_text("of others")
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "leaderboard.html").write_text("a page")
    with PageServer(folder) as opened:
        thread = threading.Thread(target=opened.serve_forever, args=(0.01,))
        thread.start()
        yield opened
        opened.shutdown()
        thread.join()


def test_a_page_is_served_on_loopback_only_and_the_terminal_stays_quiet(server, capsys):
    assert server.server_address[0] == LOOPBACK
    address = f"http://{LOOPBACK}:{server.server_port}/leaderboard.html"
    with urllib.request.urlopen(address, timeout=10) as answer:
        assert answer.read() == b"a page"
    assert capsys.readouterr().err == ""


def test_what_lies_above_the_folder_is_not_served(server):
    address = f"http://{LOOPBACK}:{server.server_port}/%2e%2e/secret"
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(address, timeout=10)
