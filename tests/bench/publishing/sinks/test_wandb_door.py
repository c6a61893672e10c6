"""Contents of an offline run; see also `test_wandb`."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.core.record import Record
from bench.publishing.sinks import publish_runs
from tests import records as made
from tests.bench.publishing.sweeps import config, small_sweep

pytestmark = pytest.mark.usefixtures("nobody_at_home")


def log_of(folder):
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


def history_of(folder):
    return [
        {
            item.key or "/".join(item.nested_key): json.loads(item.value_json)
            for item in r.history.item
        }
        for r in log_of(folder)
        if r.WhichOneof("record_type") == "history"
    ]


@pytest.fixture(scope="module")
def offline(tmp_path_factory):
    """A sweep published offline: the folder of its run, and `out`."""
    out = tmp_path_factory.mktemp("offline")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("WANDB_")]:
            patch.delenv(name)
        patch.setenv("HOME", str(out / "home"))
        folders, notes = publish_runs(small_sweep(), config(out))
        assert notes == []
        yield folders[0], out


def test_the_offline_run_holds_config_and_summary(offline):
    folder, out = offline
    wandb = Path(sys.executable).parent / "wandb"
    done = subprocess.run(
        [wandb, "leet", "inspect", "--summary", "--json", folder],
        cwd=out,
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
    assert seen["summary"]["num_ok"] == 10
    assert seen["summary"]["num_skipped"] == 1
    assert 0.9 < seen["summary"]["accuracy/recall/nala"] < 1


def test_the_offline_run_holds_the_records_and_their_hash(offline):
    folder, out = offline
    staged = (out / "wandb" / ".data" / made.SWEEP / "records.jsonl").read_text()
    assert [Record.from_json(line) for line in staged.splitlines()] == small_sweep()
    artifacts = [r.artifact for r in log_of(folder) if r.WhichOneof("record_type") == "artifact"]
    (kept,) = [one for one in artifacts if one.type == "records"]
    assert kept.name == f"records-{made.SWEEP}"
    assert json.loads(kept.metadata)["sha256"] == hashlib.sha256(staged.encode()).hexdigest()


def test_curves_are_drawn_against_sequence_length_while_the_step_rises(offline):
    folder, _ = offline
    history = history_of(folder)
    name = "latency_s/float32 forward/nala"
    assert [row["seq_len"] for row in history if name in row] == [256, 1024]
    steps = [row["_step"] for row in history]
    assert steps == sorted(set(steps))
    metrics = {r.metric.name or r.metric.glob_name: r.metric for r in log_of(folder)}
    assert metrics["latency_s/*"].step_metric == "seq_len"


def test_the_jobs_of_a_multirun_are_runs_of_one_group(tmp_path):
    records = small_sweep("20310506-abc/0")[:2] + small_sweep("20310506-abc/1")[2:4]
    folders, notes = publish_runs(records, config(tmp_path))
    assert notes == []
    runs = [r.run for f in folders for r in log_of(f) if r.WhichOneof("record_type") == "run"]
    assert [run.run_id for run in runs] == ["20310506-abc-0", "20310506-abc-1"]
    assert {run.run_group for run in runs} == {"20310506-abc"}


def test_publishing_again_replaces_the_run_and_leaves_no_files_of_the_first(tmp_path):
    records, home = small_sweep("b-a") + small_sweep("a"), tmp_path / "wandb"
    for sweep in ("b-a", "a", "a"):
        folders, notes = publish_runs(records, config(tmp_path), sweep=sweep)
        assert notes == [] and folders[0].is_dir()
    runs = sorted(path.name.split("-", 3)[3] for path in home.glob("offline-run-*"))
    assert runs == ["a", "b-a"]
    assert not (home / ".cache").exists()
    assert sorted(path.name for path in (home / ".data").iterdir()) == ["a", "b-a"]
