"""`python -m bench.report` and W&B's own program, each as its own process, with a server here."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from bench.store import Store
from tests import records as made
from tests.bench.publish.sweeps import small_sweep

KEY = "a" * 40
pytestmark = pytest.mark.usefixtures("nobody_at_home")


def report(
    out: Path, home: Path, *words: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """`python -m bench.report` as its own process, with nothing on its standard input."""
    store = Store(out, "a")
    for record in small_sweep():
        store.append(record)
    return subprocess.run(
        [sys.executable, "-m", "bench.report", f"out={out}", "charts=false", *words],
        env=os.environ | {"HOME": str(home)} | environment,
        cwd=home,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


def test_online_without_a_key_neither_asks_nor_hangs_on_a_terminal(
    tmp_path: Path, nobody_at_home: Path
) -> None:
    store = Store(tmp_path, "a")
    for record in small_sweep():
        store.append(record)
    ours, theirs = pty.openpty()
    words = [f"out={tmp_path}", "charts=false", "wandb.mode=null"]
    with subprocess.Popen(
        [sys.executable, "-m", "bench.report", *words],
        env=os.environ | {"WANDB_MODE": "online"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        hangs = threading.Timer(60, process.kill)
        hangs.start()
        said = b""
        try:
            while data := os.read(ours, 4096):
                said += data
        except OSError:  # how Linux tells that the other side of a terminal is gone
            pass
        hangs.cancel()
    os.close(ours)
    assert process.returncode == 0
    assert b"no API key is configured" in said
    assert list((tmp_path / "wandb").glob("offline-run-*"))
    assert list(nobody_at_home.iterdir()) == []


class Server(BaseHTTPRequestHandler):
    """As much of a W&B server as a run needs; remembers what was sent."""

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.seen.append((self.path, body))  # type: ignore[attr-defined]
        sent = json.loads(body) if self.path == "/graphql" else {}
        query = sent.get("query", "")
        project = {"id": "p", "name": "attnbench", "entity": {"id": "e", "name": "me"}}
        bucket = {"id": "b", "name": made.SWEEP, "displayName": "d", "config": "{}"}
        data: dict[str, Any] = {}
        if "mutation UpsertBucket" in query:
            data = {"upsertBucket": {"bucket": bucket | {"project": project}, "inserted": True}}
        elif "mutation CreateRunFiles" in query:
            files = [
                {"name": name, "uploadUrl": f"http://{self.headers['Host']}/upload/{name}"}
                for name in sent["variables"]["files"]
            ]
            data = {"createRunFiles": {"runID": "b", "uploadHeaders": [], "files": files}}
        elif "query Viewer" in query:
            data = {"viewer": {"id": "u", "entity": "me", "username": "me", "flags": "{}"}}
        elif "query ArtifactType" in query:
            data = {"project": {"artifact": {"artifactType": {"name": "run_table"}}}}
        elif "mutation CreateArtifact" in query:
            artifact = {"id": "a", "state": "COMMITTED", "artifactSequence": {"id": "s"}}
            data = {"createArtifact": {"artifact": artifact}}
        answer = json.dumps({"data": data}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_POST = do_PUT = _answer


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as here:
        here.seen = []  # type: ignore[attr-defined]
        threading.Thread(target=here.serve_forever, daemon=True).start()
        yield here
        here.shutdown()


def test_with_a_key_both_tables_are_sent_to_the_address_that_is_configured(
    tmp_path: Path, nobody_at_home: Path, server: ThreadingHTTPServer
) -> None:
    done = report(
        tmp_path,
        nobody_at_home,
        "wandb.mode=null",
        WANDB_BASE_URL=f"http://127.0.0.1:{server.server_port}",
        WANDB_API_KEY=KEY,
        WANDB_ERROR_REPORTING="false",
    )
    assert done.returncode == 0, done.stderr
    assert "could not be reached" not in done.stdout
    paths = [path for path, _ in server.seen]  # type: ignore[attr-defined]
    for name in ("leaderboard", "records"):
        assert [path for path in paths if path.startswith(f"/upload/media/table/{name}_")]
    assert list((tmp_path / "wandb").glob("run-*"))


def test_an_offline_run_can_be_synced_later(
    tmp_path: Path, nobody_at_home: Path, server: ThreadingHTTPServer
) -> None:
    assert report(tmp_path, nobody_at_home, "wandb.mode=offline").returncode == 0
    (folder,) = (tmp_path / "wandb").glob("offline-run-*")
    environment = {
        "HOME": str(nobody_at_home),
        "WANDB_BASE_URL": f"http://127.0.0.1:{server.server_port}",
        "WANDB_API_KEY": KEY,
        "WANDB_ERROR_REPORTING": "false",
    }
    done = subprocess.run(
        [Path(sys.executable).parent / "wandb", "sync", "--yes", folder],
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    streamed = b"".join(body for path, body in server.seen if "file_stream" in path)  # type: ignore[attr-defined]
    assert b"latency_s/float32 forward/nala" in streamed


def test_a_mode_that_nobody_knows_is_told_and_leaves_an_offline_run(
    tmp_path: Path, nobody_at_home: Path
) -> None:
    done = report(tmp_path, nobody_at_home, "wandb.mode=null", WANDB_MODE="odd")
    assert done.returncode == 0, done.stderr
    assert "WANDB_MODE=odd is not known here" in done.stdout
    assert list((tmp_path / "wandb").glob("offline-run-*"))
