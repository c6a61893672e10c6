"""A sweep's own ways: trying again, stopping at once, a disk that is full from the start."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench import sweep
from bench.record import Status
from bench.worker.jobs import Interrupt, Interrupted
from tests import records as made

ROOT = Path(__file__).resolve().parent.parent.parent
TINY = ["seq_len=32", "num_heads=2", "head_dim=8", "charts=false", "wandb.mode=disabled"]


class Unlucky:
    """A runner whose cell crashes so many times."""

    def __init__(self, times):
        self.left = times

    def run(self, batch):
        for p in batch:
            self.left -= 1
            if self.left >= 0:
                yield made.failed_record(p.cell, Status.CRASHED, "killed")
            else:
                yield made.ok_record(p.cell, made.speed([0.1] * 8))


class Waits(Interrupt):
    def __init__(self):
        super().__init__()
        self.pauses = []

    def pause(self, seconds):
        self.pauses.append(seconds)


def tried(times, retry):
    kept, interrupt = [], Waits()
    batch = [sweep.PlannedCell(cell=made.kernel_cell("linear"))]
    sweep._run_with_retries(
        Unlucky(times), batch, retry, interrupt, lambda *words: kept.append(words)
    )
    return [(str(record.status), is_last) for record, is_last in kept], interrupt.pauses


def test_what_crashed_is_tried_again_after_growing_pauses():
    crash, last_crash, ok = ("crashed", False), ("crashed", True), ("ok", True)
    assert tried(0, retry=3) == ([ok], [])
    assert tried(2, retry=3) == ([crash, crash, ok], [1.0, 2.0])
    assert tried(9, retry=2) == ([crash, crash, last_crash], [1.0, 2.0])
    assert tried(9, retry=0) == ([last_crash], [])


def test_a_pause_ends_when_somebody_asks_to_stop():
    interrupt = Interrupt()
    interrupt.is_asked = True
    with pytest.raises(Interrupted):
        interrupt.pause(60)


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


def test_controls_that_are_no_mechanisms_are_refused(tmp_path, capsys):
    words = ["attention=[softmax]", "task=[]", "controls=[nope]", f"out={tmp_path}", "dry_run=true"]
    assert sweep.main(words) == 2
    assert "controls names 'nope'" in capsys.readouterr().err
