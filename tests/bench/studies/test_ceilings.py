"""The command, with a worker that measures for real where it must and next to nothing else."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.core.cli.errors import ConfigError
from bench.core.record import Status
from bench.measuring.worker.jobs import Interrupted
from bench.measuring.worker.outcome import Outcome
from bench.measuring.worker.results import CEILING as JOB
from bench.measuring.worker.results import CeilingResult
from bench.studies import ceilings as command
from bench.studies.ceilings import Calibrate
from bench.studies.session import Session

ROOT = Path(__file__).resolve().parents[4]
BASE = {
    "device": "cpu",
    "dtype": ["float32", "bfloat16"],
    "num_threads": None,
    "out": "results",
    "run": {"timeout_s": 60, "allocator": "retain"},
}
CEILING = {
    "flops_per_s": 1e11,
    "product": [512, 512, 512],
    "library": "oneDNN",
    "library_flops_per_s": [["torch.mm", 5e10], ["oneDNN", 1e11]],
    "bytes_per_s": [[524_288, 2e11], [134_217_728, 4e10]],
    "is_noisy": False,
}


class FakeJobs:
    """Answers at once; what is in `fails` is an error."""

    fails = ()
    asked = None

    def __init__(self, *_):
        pass

    def do(self, job, **place):
        assert job is JOB
        self.asked.append(tuple(place.values()))
        if place["dtype"] in self.fails:
            return Outcome(status=Status.ERROR, reason="RuntimeError: not implemented")
        return Outcome(status=Status.OK, result=CeilingResult(**CEILING, measured_s=1.0))


@pytest.fixture
def jobs(monkeypatch):
    monkeypatch.setattr(command, "Jobs", FakeJobs)
    monkeypatch.setattr(FakeJobs, "asked", [])
    monkeypatch.setattr(FakeJobs, "fails", ())
    return FakeJobs


def run(out, **changes):
    session = Session("calibrate", {})
    session.console.width = 120
    asked = Calibrate.read(BASE | {"out": str(out)} | changes)
    code = command.study(asked, session)
    return 130 if session.is_stopped else code


def stored(out):
    (path,) = (out / "calibration").iterdir()
    return json.loads(path.read_text())


@pytest.mark.parametrize("all_threads", [(1, 6), (1,)])
def test_every_dtype_is_measured_with_one_thread_and_with_all(
    jobs, tmp_path, monkeypatch, all_threads
):
    num_cores = all_threads[-1]
    monkeypatch.setattr("bench.measuring.machine.environment._num_cores", lambda: num_cores)
    assert run(tmp_path) == 0
    dtypes = ("float32", "bfloat16")
    assert jobs.asked == [("cpu", dtype, threads) for threads in all_threads for dtype in dtypes]
    assert len(stored(tmp_path)["ceilings"]) == len(jobs.asked)


def test_what_is_stored_names_device_and_machine(jobs, tmp_path):
    run(tmp_path, dtype="float32", num_threads=1)
    calibration = stored(tmp_path)
    (ceiling,) = calibration["ceilings"]
    assert ceiling["device_name"] and ceiling["flops_per_s"] == 1e11
    assert calibration["fingerprint"]["allocator"] == "retain" and calibration["made_at"]


def test_measuring_again_replaces_what_was_measured_and_keeps_the_rest(jobs, tmp_path, monkeypatch):
    run(tmp_path, num_threads=1)
    monkeypatch.setitem(CEILING, "flops_per_s", 3e11)
    run(tmp_path, dtype="bfloat16", num_threads=[1, 2])
    rates = {(c["dtype"], c["num_threads"]): c["flops_per_s"] for c in stored(tmp_path)["ceilings"]}
    assert rates == {("float32", 1): 1e11, ("bfloat16", 1): 3e11, ("bfloat16", 2): 3e11}


def test_a_dtype_that_the_device_lacks_is_said_and_the_others_are_kept(jobs, tmp_path, exits):
    jobs.fails = ("bfloat16",)
    said = exits(0, run(tmp_path, num_threads=1))
    assert "Not measured: bfloat16 on cpu, 1 thread: RuntimeError" in said
    assert [c["dtype"] for c in stored(tmp_path)["ceilings"]] == ["float32"]


def test_nothing_measured_is_a_verdict_and_writes_nothing(jobs, tmp_path):
    jobs.fails = ("bfloat16", "float32")
    assert run(tmp_path) == 1
    assert not (tmp_path / "calibration").exists()


def test_a_busy_machine_is_told(jobs, tmp_path, monkeypatch, capsys):
    run(tmp_path)
    assert "~" not in capsys.readouterr().out
    monkeypatch.setitem(CEILING, "is_noisy", True)
    run(tmp_path)
    said = capsys.readouterr().out
    assert "Calibrate again when it is quiet" in said and "float32 ~" in said


def test_a_calibration_that_is_stopped_writes_nothing(jobs, tmp_path, monkeypatch, capsys):
    def stop(*_, **__):
        raise Interrupted

    run(tmp_path, dtype="float32", num_threads=1)
    before = stored(tmp_path)
    monkeypatch.setattr(FakeJobs, "do", stop)
    assert run(tmp_path, num_threads=1) == 130 and stored(tmp_path) == before
    assert "Nothing was written." in capsys.readouterr().out


def test_a_damaged_calibration_is_refused_before_anything_is_measured(jobs, tmp_path):
    run(tmp_path)
    (path,) = (tmp_path / "calibration").iterdir()
    path.write_text("{")
    jobs.asked.clear()
    with pytest.raises(ConfigError, match="is not a calibration"):
        run(tmp_path)
    assert jobs.asked == []


@pytest.mark.slow
def test_a_calibrated_sweep_says_how_near_the_roof_each_row_is(tmp_path):
    def attnbench(command, *words):
        environment = os.environ | {"PYTHONPATH": str(ROOT), "WANDB_MODE": "disabled"}
        return subprocess.run(
            [sys.executable, "-m", f"bench.{command}", *words, f"out={tmp_path}"],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )

    sweep = ("sweep", "attention=[softmax]", "task=[]", "seq_len=[64]", "charts=false")
    assert attnbench(*sweep).returncode == 0
    assert "roofline fraction" not in (tmp_path / "leaderboard.md").read_text()
    done = attnbench("calibrate", "dtype=float32", "num_threads=1")
    assert done.returncode == 0, done.stderr
    assert attnbench("report").returncode == 0
    page = (tmp_path / "leaderboard.md").read_text()
    assert "roofline fraction (%)" in page and (" compute" in page or " memory" in page)
    assert attnbench(*sweep, "force=true").returncode == 0
    lines = [
        json.loads(line)
        for file in (tmp_path / "records").iterdir()
        for line in file.read_text().splitlines()
    ]
    newest = max(lines, key=lambda line: line["started_at"])
    assert newest["environment"]["calibration"]["ceilings"][0]["flops_per_s"] > 1e8
