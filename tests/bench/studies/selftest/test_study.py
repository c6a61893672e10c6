"""The command on trials that cost nothing; and, slowly, a short run of the real thing."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from bench.core.cli.errors import ConfigError
from bench.core.lines import Lines
from bench.measuring.worker.jobs import Interrupted
from bench.publishing.document import markdown
from bench.studies.gate.rows import GateVerdict
from bench.studies.selftest import study
from bench.studies.selftest.page import page_of
from bench.studies.session import Session
from tests.bench.studies.selftest.made_up import config, origin, trial
from tests.waiting import wait_until

ROOT = Path(__file__).resolve().parents[4]


class FakeNeighbour:
    is_on = False

    def __enter__(self):
        FakeNeighbour.is_on = True

    def __exit__(self, *_):
        FakeNeighbour.is_on = False


class FakeServer:
    def start(self):
        pass


def data_file(path):
    return Lines[study.Line](path, study.Line, mend=study.MEND)


SWEEP = SimpleNamespace(run=SimpleNamespace(timeout_s=1.0))


@pytest.fixture
def session(monkeypatch):
    monkeypatch.setattr(Session, "server", lambda self, config: FakeServer())
    return Session("selftest", {})


@pytest.fixture
def run(monkeypatch, tmp_path, session):
    """Make two trials of each kind; returns whether it was stopped, and the trials on the disk."""
    monkeypatch.setattr(study, "neighbour", FakeNeighbour)
    file = data_file(tmp_path / "run.jsonl")
    file.append(origin())

    def call(stop_at=None, **changes):
        made = []

        def measure(unit, *_):
            if len(made) == stop_at:
                raise Interrupted
            made.append(unit)
            assert FakeNeighbour.is_on is unit.is_loaded
            return [trial(tool=unit.tool, is_loaded=unit.is_loaded, percent=unit.percent)]

        monkeypatch.setattr(study, "measure", measure)
        trials = {"unchanged": 4, "slowdown": 2, "rivals": 2}
        study.run(config(trials=trials, **changes), SWEEP, (), file, session)
        return session.is_stopped, file.read()[1:]

    return call


def test_every_trial_is_made_under_its_load_and_written_down(run):
    stopped, trials = run()
    assert not stopped and len(trials) == 2 * 2 * 4 + 2 * 2
    assert not FakeNeighbour.is_on


def test_ctrl_c_keeps_what_there_is(run):
    assert run(stop_at=3) == (True, [trial(), trial(percent=5), trial(percent=10)])


def test_nothing_is_begun_that_would_not_end_in_time(run):
    assert run(budget="1s") == (False, [])


def test_the_newest_data_makes_the_page_and_the_exit_code(tmp_path, session):
    out, page = tmp_path / "out", tmp_path / "page.md"
    asked = config(out=str(out), page=str(page), report=True)
    with pytest.raises(ConfigError, match="make selftest"):
        study.study(asked, session)
    data_file(out / "1.jsonl").append(origin(), *[trial(GateVerdict.SLOWER)] * 10)
    assert study.study(asked, session) == 1
    data_file(out / "2.jsonl").append(origin(), *[trial(GateVerdict.SAME)] * 10)
    assert study.study(asked, session) == 0
    assert "results/selftest/2.jsonl" in page.read_text()
    (out / "3.jsonl").write_text("{}\n")
    with pytest.raises(ConfigError, match=r"3\.jsonl:1 is no Origin or Trial: .*Move it away\."):
        study.study(asked, session)


def test_the_stored_trials_make_the_stored_page():
    (stored,) = (ROOT / "results" / "selftest").glob("*.jsonl")
    first, *trials = data_file(stored).read()
    page = markdown(page_of(stored.name, first, trials))
    assert page == (ROOT / "docs" / "selftest.md").read_text()


SHORT = [
    "attention=[softmax,linear]",
    "seq_len=[64]",
    "trials={unchanged: 2, slowdown: 1, rivals: 1}",
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
