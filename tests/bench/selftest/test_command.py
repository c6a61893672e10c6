"""The command on trials that cost nothing; and, slowly, a short run of the real thing."""

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from bench.app.errors import ConfigError
from bench.gate.verdict import Verdict
from bench.selftest import command
from bench.worker.jobs import Interrupted
from tests.bench.selftest.made_up import config, session, trial
from tests.waiting import wait_until

ROOT = Path(__file__).resolve().parents[3]


class FakeNeighbour:
    is_on = False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        FakeNeighbour.is_on = False

    def switch(self, is_on):
        FakeNeighbour.is_on = is_on


class FakeServer:
    def start(self):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Make two trials of each kind; returns whether it was stopped, and the trials on the disk."""
    monkeypatch.setattr(command, "Neighbour", FakeNeighbour)
    path = tmp_path / "run.jsonl"
    path.write_text(json.dumps(session()) + "\n")

    def call(stop_at=None, **changes):
        made = []

        def measure(unit, *_):
            if len(made) == stop_at:
                raise Interrupted
            made.append(unit)
            assert FakeNeighbour.is_on is unit.is_loaded
            return [trial(tool=unit.tool, is_loaded=unit.is_loaded, percent=unit.percent)]

        monkeypatch.setattr(command, "measure", measure)
        trials = {"unchanged": 4, "slowdown": 2, "rivals": 2}
        settings = config(trials=trials, **changes)
        stopped = command.run(settings, (), FakeServer(), path, Console(file=io.StringIO()))
        return stopped, command.read_run(path).trials

    return call


def test_every_trial_is_made_under_its_load_and_written_down(run):
    stopped, trials = run()
    assert not stopped and len(trials) == 2 * 2 * 4 + 2 * 2
    assert not FakeNeighbour.is_on


def test_ctrl_c_keeps_what_there_is(run):
    assert run(stop_at=3) == (True, (trial(), trial(percent=5), trial(percent=10)))


def test_nothing_is_begun_that_would_not_end_in_time(run):
    assert run(budget="0s") == (False, ())


def test_the_newest_data_makes_the_page_and_the_exit_code(tmp_path):
    out, console = tmp_path / "out", Console(file=io.StringIO())
    settings = config(page=str(tmp_path / "page.md"))
    with pytest.raises(ConfigError, match="make selftest"):
        command.newest_run(out)
    out.mkdir()
    for name, verdict in (("1", Verdict.SLOWER), ("2", Verdict.SAME)):
        lines = [json.dumps(session()), *[trial(verdict).to_json()] * 10]
        (out / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    assert command.publish(command.newest_run(out), settings, console) == 0
    assert "results/selftest/2.jsonl" in (tmp_path / "page.md").read_text()
    assert command.publish(command.read_run(out / "1.jsonl"), settings, console) == 1
    (out / "3.jsonl").write_text("{}\nno trial\n")
    with pytest.raises(ConfigError, match=r"3\.jsonl is not data of the self-test"):
        command.newest_run(out)


SHORT = [
    "attention=[softmax,linear]",
    "seq_len=[64]",
    "trials={unchanged: 2, slowdown: 1, rivals: 1}",
    "rivals.cells_per_process=1",
    "effort={num_forks: 2, fork_s: 0.02, budget_s: 0.1}",
]


def start(folder, *words):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    environment.pop("ATTNBENCH_SWEEP", None)
    return subprocess.Popen(
        [sys.executable, "-m", "bench.selftest", *words],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.slow
def test_a_short_run_goes_from_the_command_line_to_the_page(tmp_path):
    done = start(tmp_path, *SHORT)
    words = done.communicate(timeout=280)[0]
    assert done.returncode in (0, 1), words  # one trial meets or misses the goals by chance
    page = (tmp_path / "docs" / "selftest.md").read_text()
    assert "24 trials" in page and "torch.utils.benchmark, next to a load" in page
    again = start(tmp_path, "report=true")
    assert again.communicate(timeout=60) and again.returncode == done.returncode
    assert (tmp_path / "docs" / "selftest.md").read_text() == page


@pytest.mark.slow
def test_ctrl_c_ends_a_run_with_the_page_of_what_there_is(tmp_path):
    many = "trials={unchanged: 100, slowdown: 50, rivals: 50}"
    process = start(tmp_path, *SHORT, many)
    data = tmp_path / "results" / "selftest"
    wait_until(
        lambda: any(len(f.read_text().splitlines()) > 2 for f in data.glob("*.jsonl")),
        patience_s=120,
    )
    process.send_signal(signal.SIGINT)
    words = process.communicate(timeout=120)[0]
    assert process.returncode == 130 and "Traceback" not in words, words
    assert (tmp_path / "docs" / "selftest.md").exists()
