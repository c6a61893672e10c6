"""Whether a run goes to a server, to the disk or nowhere, and what is said where it fails."""

import json
import os
import pty
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from bench.publishing.sinks import publish_runs, wandb_door
from bench.publishing.sinks import wandb as sink
from tests import records as made
from tests.bench.publishing.sweeps import config, small_sweep

pytestmark = pytest.mark.usefixtures("nobody_at_home")


@pytest.mark.parametrize("where", ["config", "environment"])
def test_disabled_writes_nothing_and_does_not_import_wandb(tmp_path, monkeypatch, where):
    monkeypatch.setitem(sys.modules, "wandb", None)  # an import would raise
    if where == "environment":
        monkeypatch.setenv("WANDB_MODE", "disabled")
    mode = "disabled" if where == "config" else None
    assert publish_runs(small_sweep(), config(tmp_path, mode=mode)) == ([], [])
    assert list(tmp_path.iterdir()) == [tmp_path / "home"]


@pytest.mark.parametrize(
    ("asked", "environment", "has_key", "mode"),
    [
        (None, None, False, "offline"),
        (None, None, True, "online"),
        (None, "offline", True, "offline"),
        (None, "dryrun", True, "offline"),
        (None, "online", False, "offline"),
        ("offline", "online", True, "offline"),
        ("online", "offline", True, "online"),
        ("online", None, False, "offline"),
    ],
)
def test_the_mode_is_ours_to_choose_and_online_needs_a_key(
    monkeypatch, asked, environment, has_key, mode
):
    if environment:
        monkeypatch.setenv("WANDB_MODE", environment)
    problem = "" if has_key else "no API key is configured"
    monkeypatch.setattr(wandb_door, "why_not_online", lambda: problem)
    chosen, notes = sink.choose_mode(asked)
    assert chosen == mode
    assert bool(notes) == ("online" in (asked, environment) and not has_key)


def test_what_cannot_be_sent_is_written_and_the_rest_is_not_tried(tmp_path, monkeypatch):
    tried: list[Path] = []

    def refuse(folder):
        tried.append(folder)
        return "the server is full"

    monkeypatch.setattr(sink, "choose_mode", lambda asked: ("online", []))
    monkeypatch.setattr(sink, "send", refuse)
    records = small_sweep("a") + small_sweep("b")
    folders, notes = publish_runs(records, config(tmp_path, mode="online"))
    assert [folder.name.rpartition("-")[2] for folder in folders] == ["a", "b"]
    assert tried == folders[:1]
    (note,) = notes
    assert "did not take the run: the server is full" in note
    assert f"wandb sync {folders[0]}" in note


KEY = "a" * 40


def report(out, home, *words, **environment):
    """`attnbench report` as its own process, with nothing on its standard input."""
    made.stored(out, *small_sweep())
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


def test_online_without_a_key_neither_asks_nor_hangs_on_a_terminal(tmp_path, nobody_at_home):
    made.stored(tmp_path, *small_sweep())
    ours, theirs = pty.openpty()
    words = [f"out={tmp_path}", "charts=false", "wandb.mode=null"]
    with subprocess.Popen(
        [sys.executable, "-m", "bench.report", *words],
        env=os.environ | {"WANDB_MODE": "online"},
        cwd=tmp_path,
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
        self.server.seen.append((self.path, body))
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
        elif "mutation CreateCustomChart" in query:
            data = {"createCustomChart": {"chart": {"id": "c"}}}
        elif "mutation UpsertView2" in query:
            view = {"id": "v", "name": sent["variables"]["name"]}
            data = {"upsertView": {"view": view, "inserted": True}}
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
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as here:
        here.seen = []
        threading.Thread(target=here.serve_forever, daemon=True).start()
        yield here
        here.shutdown()


def tables_of(server):
    """The tables that a server was sent, by name."""
    start = "/upload/media/table/"
    return {
        path.removeprefix(start).split("_")[0]: json.loads(body)
        for path, body in server.seen
        if path.startswith(start)
    }


def with_key(port):
    return {
        "WANDB_BASE_URL": f"http://127.0.0.1:{port}",
        "WANDB_API_KEY": KEY,
        "WANDB_ERROR_REPORTING": "false",
    }


def test_with_a_key_the_tables_are_sent_and_nothing_that_waited_for_it_stays(
    tmp_path, nobody_at_home, server
):
    key = with_key(server.server_port)
    done = report(tmp_path, nobody_at_home, "wandb.replay=true", **key)
    assert done.returncode == 0, done.stderr
    assert "did not take" not in done.stdout
    sent = tables_of(server)
    assert {"leaderboard", "measurements", "scaling", "pareto"} <= set(sent)
    long = sent["measurements"]
    rows = [dict(zip(long["columns"], row, strict=True)) for row in long["data"]]
    assert {row["key"] for row in rows} == {record.cell.key for record in small_sweep()}
    assert list((tmp_path / "wandb").glob("offline-run-*"))
    assert not list((tmp_path / "wandb" / ".data").iterdir())
    assert list(nobody_at_home.iterdir()) == []


def test_a_mute_port_is_left_after_a_while_and_the_run_is_written(
    tmp_path, nobody_at_home, monkeypatch
):
    with socket.create_server(("127.0.0.1", 0)) as mute:  # accepts, and never answers
        for name, value in with_key(mute.getsockname()[1]).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sink, "SEND_TIMEOUT_S", 2.0)
        folders, notes = publish_runs(
            small_sweep("a") + small_sweep("b"), config(tmp_path, mode=None)
        )
    assert [len(list(folder.glob("*.wandb"))) for folder in folders] == [1, 1]
    (note,) = notes
    assert "no answer in 2 s" in note and f"wandb sync {folders[0]}" in note
