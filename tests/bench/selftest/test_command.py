"""The command on units that cost nothing; and, slowly, a reduced run of the real thing."""

import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from bench.selftest import command
from bench.selftest.data import Journal, new_session, newest_run
from bench.selftest.findings import Goal
from bench.selftest.units import plan_units
from bench.worker.jobs import Interrupt, Interrupted
from tests.bench.selftest.runs import CELLS, COMMAND, HERE, config, gate_line
from tests.waiting import wait_until

ROOT = Path(__file__).resolve().parents[3]


class FakeBench(command.Bench):
    """Measures nothing, and notes with what load each unit was met."""

    def watched(self, unit):
        met.append((unit, FakeNeighbour.is_on))
        if len(met) == FakeBench.ctrl_c_in:
            raise Interrupted
        if len(met) == FakeBench.ctrl_c_after:
            self.interrupt.is_asked = True
        return gate_line() | unit.to_dict()


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


met = []


@pytest.fixture
def measure(monkeypatch, tmp_path):
    """Measure 8 comparisons; returns what `measure` does."""
    monkeypatch.setattr(command, "Neighbour", FakeNeighbour)
    FakeBench.ctrl_c_in = FakeBench.ctrl_c_after = None
    met.clear()

    def call(**changes):
        settings = config(alarms={"num_trials": 8}, laps=2, out=str(tmp_path), **changes)
        journal = Journal(tmp_path, new_session(HERE, settings.settings, CELLS, COMMAND))
        todo = [u for u in plan_units(settings, ("alarms",)) if u.id not in journal.done]
        bench = FakeBench(config=settings, cells=(), server=FakeServer(), interrupt=Interrupt())
        return command.measure(todo, bench, journal, Console(file=io.StringIO()))

    return call


def test_every_unit_is_measured_under_its_load_and_written_down(measure, tmp_path):
    assert measure() == 0
    assert all(unit.is_loaded == was_on for unit, was_on in met)
    assert newest_run(tmp_path).done == {unit.id for unit, _ in met} and len(met) == 8
    assert not FakeNeighbour.is_on


def test_a_second_start_goes_on_where_ctrl_c_ended_the_first(measure, tmp_path):
    FakeBench.ctrl_c_in = 4
    assert measure() is None
    assert len(newest_run(tmp_path).lines) == 3
    assert not FakeNeighbour.is_on
    FakeBench.ctrl_c_in = None
    met.clear()
    assert measure() == 0
    assert len(met) == 5 and len(newest_run(tmp_path).lines) == 8
    met.clear()
    assert measure() == 0 and met == []


def test_ctrl_c_between_two_units_loses_neither(measure, tmp_path):
    FakeBench.ctrl_c_after = 2
    assert measure() is None
    assert len(newest_run(tmp_path).lines) == 2


def test_nothing_is_begun_that_would_not_end_in_time(measure):
    assert measure(max_minutes=0.0) == 8
    assert met == []


def test_a_missed_goal_is_a_verdict_and_an_unmeasured_one_is_not():
    goal = lambda is_met: Goal(words="w", found="f", is_met=is_met)  # noqa: E731
    assert command.exit_code([goal(True), goal(None)]) == 0
    assert command.exit_code([goal(True), goal(False)]) == 1


REDUCED = [
    "attention=[softmax,linear]",
    "seq_len=[64]",
    "laps=1",
    "alarms.num_trials=4",
    "power={num_trials: 1, repeat_every: [20, 5]}",
    "rivals={num_trials: 2, cells_per_process: 2, budget_s: 0.05}",
    "precision={seq_len: [64], budget_s: 0.1}",
    "overhead.num_trials=1",
    "effort={num_forks: 2, fork_s: 0.02, budget_s: 0.1}",
]


def start(folder, *words):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "WANDB_MODE": "offline"}
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
def test_a_reduced_run_goes_from_the_command_line_to_the_page(tmp_path):
    data = tmp_path / "results" / "selftest"
    first = start(tmp_path, *REDUCED)
    wait_until(lambda: len(lines(data)) >= 3 or first.poll() is not None, patience_s=120)
    first.send_signal(signal.SIGINT)
    words = first.communicate(timeout=120)[0]
    assert first.returncode == 130, words
    assert "goes on from here" in words
    kept = lines(data)
    assert len(kept) >= 3 and not (tmp_path / "docs").exists()

    second = start(tmp_path, *REDUCED)
    words = second.communicate(timeout=280)[0]
    # So few trials meet or miss the goals by chance.
    assert second.returncode in (0, 1), words
    found = lines(data)
    assert found[: len(kept)] == kept
    measured = [line for line in found if line["part"] != "session"]
    assert len(measured) == 4 + 4 + 4 + 2 + 1
    assert {line["part"] for line in measured} == {
        "alarms",
        "power",
        "rivals",
        "precision",
        "overhead",
    }
    loaded = [line["busy_cores"] for line in measured if line["is_loaded"]]
    assert min(loaded) > 1.0

    page = (tmp_path / "docs" / "selftest.md").read_text()
    assert len(re.findall(r"^## ", page, re.M)) == 6
    (tmp_path / "docs" / "selftest.md").unlink()
    third = start(tmp_path, "report=true")
    assert third.communicate(timeout=60) and third.returncode == second.returncode
    assert (tmp_path / "docs" / "selftest.md").read_text() == page


def lines(data):
    """Whole lines of all files so far."""
    texts = [file.read_text().rpartition("\n")[0] for file in data.glob("*.jsonl")]
    return [json.loads(line) for text in texts for line in text.splitlines()]
