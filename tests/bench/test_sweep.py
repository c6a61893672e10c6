"""A sweep's own ways: stopping at once, a disk that is full from the start."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from bench import sweep
from bench.core.record import Status
from bench.measuring.machine import environment
from bench.measuring.machine.environment import freshness
from bench.measuring.plan import PlannedCell
from tests import records as made

ROOT = Path(__file__).resolve().parent.parent.parent
TINY = ["seq_len=32", "num_heads=2", "head_dim=8", "charts=false", "wandb.mode=disabled"]


def start(out, *words, **kwargs):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    environment.pop("ATTNBENCH_SWEEP", None)
    line = [sys.executable, "-m", "bench.sweep", *words, *TINY, f"out={out}"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(line, env=environment, cwd=out.parent, **pipes, **kwargs)


@pytest.mark.slow
def test_a_disk_that_is_full_from_the_start_is_said_before_anything_is_measured(tmp_path):
    def no_room():
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, 2**16))

    process = start(tmp_path / "out", "attention=linear", "task=[]", preexec_fn=no_room)
    printed, said = process.communicate(timeout=300)
    assert process.returncode == 2 and said.startswith("ConfigError: Cannot write 256 KiB")
    assert "Traceback" not in said and "timing" not in printed


@pytest.mark.slow
def test_a_second_ctrl_c_stops_at_once_and_what_was_measured_is_whole(tmp_path):
    out = tmp_path / "out"
    long = ["attention=linear", "task=[recall]", "task.recall.num_steps=1000000"]
    process = start(out, *long, "measure.budget_s=0.02")
    try:
        for line in process.stdout:
            if "[1/2]" in line:
                break
        time.sleep(3)
        for _ in range(2):
            process.send_signal(signal.SIGINT)
            time.sleep(0.05)
        began = time.monotonic()
        _, said = process.communicate(timeout=60)
        assert time.monotonic() - began < 20
    finally:
        process.kill()
    assert process.returncode == 130 and "Traceback" not in said
    (file,) = (out / "records").iterdir()
    assert [json.loads(line)["status"] for line in file.read_text().splitlines()] == ["ok"]
    assert not (out / "claims").exists()


def test_controls_that_are_no_mechanisms_are_refused(tmp_path, exits):
    words = ["attention=[softmax]", "task=[]", "controls=[nope]", f"out={tmp_path}", "dry_run=true"]
    assert "controls names 'nope'" in exits(2, sweep.main(words))


@pytest.mark.parametrize(
    ("mine", "of_others", "code"),
    [(Status.OK, Status.CRASHED, 0), (Status.CRASHED, Status.OK, 1), (None, Status.OK, 1)],
)
def test_what_has_to_be_ok_here_is_not_decided_on_other_machines(mine, of_others, code, capsys):
    cell = made.kernel_cell()
    here = environment.current(("cpu",), "retain", {})

    def record(status, **where):
        ok, words = status is Status.OK, "killed"
        result = made.speed([0.1] * 3)
        whole = made.ok_record(cell, result) if ok else made.failed_record(cell, status, words)
        return replace(whole, **where)

    records = [record(of_others, freshness="0" * 16, started_at="2026-01-02T00:00:00+00:00")]
    if mine:
        at = "2026-01-01T00:00:00+00:00"
        records.append(record(mine, freshness=freshness(cell, here), started_at=at))
    config = SimpleNamespace(require_ok=True)
    planned = [PlannedCell(cell=cell)]
    assert sweep.verdict(Console(), config, planned, records, here) == code
    assert ("Not ok" in capsys.readouterr().out) is bool(code)
