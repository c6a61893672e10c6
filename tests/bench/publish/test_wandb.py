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
from types import SimpleNamespace
from typing import Any

import pytest

from bench.publish import wandb as door
from bench.publish.config import PublishConfig, WandbConfig
from bench.publish.leaderboard import build_leaderboard
from bench.record import Record
from bench.store import Store
from tests import records as made

METRICS = ("latency_s", "speedup_over_softmax", "peak_memory_bytes", "accuracy")
KEY = "a" * 40


@pytest.fixture(autouse=True)
def nobody_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without a key, so that no test depends on who runs it; it must stay empty."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("NETRC", raising=False)
    return home


def config(out: Path, **changes: Any) -> PublishConfig:
    wandb = WandbConfig(**({"mode": "offline", "tags": ("nightly",)} | changes))
    return PublishConfig(out=out, metrics=METRICS, columns=METRICS[:1], wandb=wandb)


def small_sweep(sweep: str = made.SWEEP) -> list[Record]:
    timed = [r for n in (1024, 256) for r in made.block_records(["softmax", "nala"], seq_len=n)]
    records = timed + made.task_records(["nala"]) + made.one_of_each_failure()
    return [made.of_sweep(record, sweep) for record in records]


def log_of(folder: Path) -> list[Any]:
    """Every record of an offline run: a 7-byte header, then LevelDB blocks of 32 KiB."""
    from wandb.proto.wandb_internal_pb2 import Record as LogRecord

    (path,) = folder.glob("*.wandb")
    data, position, parts, found = path.read_bytes(), 7, b"", []
    while position + 7 <= len(data):
        if 32768 - position % 32768 < 7:
            position += 32768 - position % 32768
            continue
        length = int.from_bytes(data[position + 4 : position + 6], "little")
        kind = data[position + 6]  # 1 whole, 2 first, 3 middle, 4 last
        parts += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):
            record = LogRecord()
            record.ParseFromString(parts)
            found.append(record)
            parts = b""
    return found


def history_of(folder: Path) -> list[dict[str, Any]]:
    return [
        {
            item.key or "/".join(item.nested_key): json.loads(item.value_json)
            for item in r.history.item
        }
        for r in log_of(folder)
        if r.WhichOneof("record_type") == "history"
    ]


def table_of(folder: Path, name: str) -> dict[str, Any]:
    (path,) = (folder / "files" / "media" / "table").glob(f"{name}_*.table.json")
    table: dict[str, Any] = json.loads(path.read_text())
    return table


@pytest.fixture(scope="module")
def offline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    """A sweep published offline: the folder of its run, and `out`."""
    out = tmp_path_factory.mktemp("offline")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("WANDB_")]:
            patch.delenv(name)
        patch.setenv("HOME", str(out / "home"))
        folders, notes = door.publish_wandb(small_sweep(), config(out))
        assert notes == []
        yield folders[0], out


def test_the_offline_run_holds_config_and_summary(offline: tuple[Path, Path]) -> None:
    folder, _ = offline
    wandb = Path(sys.executable).parent / "wandb"
    done = subprocess.run(
        [wandb, "leet", "inspect", "--summary", "--json", folder],
        capture_output=True,
        text=True,
        check=True,
    )
    seen = json.loads(done.stdout)
    assert (seen["state"], seen["exit_code"], seen["project"]) == ("finished", 0, "attnbench")
    assert seen["run_id"] == made.SWEEP
    assert seen["config"]["sweep"] == made.SWEEP
    assert seen["config"]["axes"]["seq_len"] == [256, 1024, 131072]
    assert seen["config"]["entries"]["nala"] == {"mechanism": "nala"}
    assert seen["config"]["environment"]["versions"]["torch"] == "2.13.0"
    assert seen["summary"]["num_ok"] == 7
    assert seen["summary"]["num_skipped"] == 1
    assert 0.9 < seen["summary"]["accuracy/recall/nala"] < 1


def test_the_offline_run_holds_both_tables(offline: tuple[Path, Path]) -> None:
    folder, _ = offline
    records, board = table_of(folder, "records"), table_of(folder, "leaderboard")
    assert len(records["data"]) == len(small_sweep())
    assert {"entry", "status", "reason", "seq_len", *METRICS} <= set(records["columns"])
    rows = [dict(zip(board["columns"], row, strict=True)) for row in board["data"]]
    (first, *_) = [row for row in rows if row["seq_len"] == 1024]
    assert (first["entry"], first["rank"], first["status"]) == ("nala", "1", "ok")
    assert first["speedup_over_softmax"] > 1
    (trained,) = [row for row in rows if row["task"] == "recall"]
    assert (trained["entry"], trained["seeds"]) == ("nala", 3)


def test_curves_are_drawn_against_sequence_length_while_the_step_rises(
    offline: tuple[Path, Path],
) -> None:
    folder, _ = offline
    history = history_of(folder)
    name = "latency_s/float32 forward/nala"
    assert [row["seq_len"] for row in history if name in row] == [256, 1024]
    steps = [row["_step"] for row in history]
    assert steps == sorted(set(steps))
    metrics = {r.metric.name or r.metric.glob_name: r.metric for r in log_of(folder)}
    assert metrics["latency_s/*"].step_metric == "seq_len"


def test_run_group_and_tags_are_recorded_and_the_host_is_not(offline: tuple[Path, Path]) -> None:
    folder, _ = offline
    (run,) = [r.run for r in log_of(folder) if r.WhichOneof("record_type") == "run"]
    assert (run.run_group, list(run.tags), run.job_type) == (made.SWEEP, ["nightly"], "sweep")
    assert run.host == "anon"


def test_all_files_stay_under_out_and_the_environment_is_as_before(
    offline: tuple[Path, Path],
) -> None:
    folder, out = offline
    assert folder.parent == out / "wandb"
    assert not (out / "home").exists()
    assert not [name for name in os.environ if name.startswith("WANDB_") and "DIR" in name]


def test_the_jobs_of_a_multirun_are_runs_of_one_group(tmp_path: Path) -> None:
    records = small_sweep("20310506-abc/0")[:2] + small_sweep("20310506-abc/1")[2:4]
    folders, notes = door.publish_wandb(records, config(tmp_path))
    assert notes == []
    runs = [r.run for f in folders for r in log_of(f) if r.WhichOneof("record_type") == "run"]
    assert [run.run_id for run in runs] == ["20310506-abc-0", "20310506-abc-1"]
    assert {run.run_group for run in runs} == {"20310506-abc"}


def test_one_sweep_of_a_store_can_be_published_alone(tmp_path: Path) -> None:
    records = small_sweep("a") + small_sweep("b")
    folders, _ = door.publish_wandb(records, config(tmp_path), sweep="b")
    assert [folder.name.rpartition("-")[2] for folder in folders] == ["b"]


@pytest.mark.parametrize("where", ["config", "environment"])
def test_disabled_writes_nothing_and_does_not_import_wandb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)  # an import would raise
    if where == "environment":
        monkeypatch.setenv("WANDB_MODE", "disabled")
    mode = "disabled" if where == "config" else None
    assert door.publish_wandb(small_sweep(), config(tmp_path, mode=mode)) == ([], [])
    assert list(tmp_path.iterdir()) == [tmp_path / "home"]


@pytest.mark.parametrize(
    ("asked", "environment", "ambient", "has_key", "mode"),
    [
        (None, None, "online", False, "offline"),
        (None, None, "online", True, "online"),
        (None, None, "offline", True, "offline"),
        (None, None, "disabled", True, "disabled"),
        (None, "offline", "offline", True, "offline"),
        (None, "dryrun", "online", True, "offline"),
        (None, "online", "online", True, "online"),
        (None, "online", "online", False, "offline"),
        (None, "shared", "online", False, "offline"),
        ("offline", "online", "online", True, "offline"),
        ("online", "offline", "offline", True, "online"),
        ("online", None, "online", False, "offline"),
    ],
)
def test_the_mode_is_ours_to_choose_and_online_needs_a_key(
    monkeypatch: pytest.MonkeyPatch,
    asked: str | None,
    environment: str | None,
    ambient: str,
    has_key: bool,
    mode: str,
) -> None:
    if environment:
        monkeypatch.setenv("WANDB_MODE", environment)
    settings = SimpleNamespace(mode=ambient, base_url="https://example.invalid")
    monkeypatch.setattr(door, "_ambient_settings", lambda: settings)
    monkeypatch.setattr(door, "_has_key", lambda url: has_key)
    chosen, notes = door.choose_mode(WandbConfig(mode=asked))
    assert chosen == mode
    is_refused = "online" in (asked, environment) and not has_key
    assert bool(notes) == (is_refused or environment == "shared")


class FakeWandb:
    """Raises what the real one raises, when told to."""

    class UsageError(Exception):
        pass

    def __init__(self, *failing: str) -> None:
        self.failing = failing
        self.modes: list[str] = []
        self.num_teardowns = 0

    def Settings(self, **settings: Any) -> dict[str, Any]:
        return settings

    def Table(self, **table: Any) -> dict[str, Any]:
        return table

    def teardown(self) -> None:
        self.num_teardowns += 1

    def init(self, *, mode: str, dir: str, **rest: Any) -> Any:
        self.modes.append(mode)
        if mode in self.failing:
            raise self.UsageError("No API key configured.\nUse `wandb login`.")

        def log(row: dict[str, Any]) -> None:
            if f"log {mode}" in self.failing:
                raise ConnectionError("gone")

        return SimpleNamespace(
            dir=f"{dir}/wandb/{mode}/files",
            define_metric=lambda *_, **__: None,
            log=log,
            summary={},
            finish=lambda exit_code=None: None,
        )


@pytest.mark.parametrize("failing", [("online",), ("log online",)])
def test_what_fails_online_is_written_offline_with_a_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: tuple[str, ...]
) -> None:
    fake = FakeWandb(*failing)
    monkeypatch.setitem(sys.modules, "wandb", fake)  # type: ignore[arg-type]
    monkeypatch.setattr(door, "choose_mode", lambda config: ("online", []))
    folders, notes = door.publish_wandb(small_sweep(), config(tmp_path, mode="online"))
    assert fake.modes == ["online", "offline"]
    assert fake.num_teardowns == 2
    assert folders == [tmp_path / "wandb" / "offline"]
    assert "could not be reached" in notes[0]
    assert "\n" not in notes[0]


def test_if_all_fails_there_is_a_note_and_no_exception(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", FakeWandb("offline"))  # type: ignore[arg-type]
    folders, notes = door.publish_wandb(small_sweep("a") + small_sweep("b"), config(tmp_path))
    assert folders == []
    assert notes == [
        "W&B was left out: UsageError: No API key configured. The records are unharmed."
    ]


def test_without_the_package_there_is_a_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    folders, notes = door.publish_wandb(small_sweep(), config(tmp_path))
    assert folders == []
    assert "W&B was left out: " in notes[0]


def test_the_settings_that_are_unstable_are_those_of_the_installed_version() -> None:
    import wandb

    settings = door._settings(wandb)
    assert settings.init_timeout == door.INIT_TIMEOUT_S
    assert settings.x_disable_stats
    assert settings.x_transaction_log_flush_interval == 1.0


def test_curves_skip_lengths_without_numbers_and_name_what_differs() -> None:
    records = made.block_records(["nala"]) + made.block_records(["nala"], batch_size=8)
    records += made.one_of_each_failure()
    board = build_leaderboard(records, metrics=["latency_s"])
    found = dict(door.curves(board, ["latency_s"]))
    assert list(found) == [256]
    assert any("batch_size=8" in name for name in found[256])
    assert all(name.startswith("latency_s/float32 forward ") for name in found[256])


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
