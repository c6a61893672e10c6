"""Training of a cell: which runs are trained again, and how far a budget came."""

from dataclasses import replace

import pytest

from bench.core.record import TRAINING_VERSION
from bench.core.store import Store
from bench.studies.reproduce import running
from bench.studies.reproduce.running import reached, run_cell
from bench.studies.reproduce.settings import Reproduce
from bench.studies.reproduce.verdicts import PaperVerdict
from tests.bench.studies.reproduce.conftest import quiet
from tests.bench.studies.reproduce.given import CELL, PROTOCOL, RUNS, record


@pytest.fixture
def asked(tmp_path):
    return Reproduce(keep=tmp_path / "keep", out=tmp_path / "out")


@pytest.fixture
def todos(monkeypatch):
    """Runs that were to be trained, a list a time; all of them end without a record."""
    found = []

    def train(cell, todo, *args):
        assert len(found) < 2, "a run that failed is repeated"
        found.append([(seed, RUNS.index(run)) for seed, run in todo])
        return ""

    monkeypatch.setattr(running, "_train", train)
    return found


def store(asked, *records):
    for one in records:
        Store(asked.out, "sweep").append(one)


def test_a_run_that_failed_is_not_repeated(asked, todos):
    assert run_cell(CELL, asked, quiet("1")).verdict is PaperVerdict.NOT_RUN
    assert todos == [[(0, place) for place in range(4)]]


def test_only_runs_of_todays_training_are_counted_and_force_repeats_them(asked, todos):
    store(asked, *(record(run) for run in RUNS[:3]))
    run_cell(CELL, asked, quiet("1"))
    run_cell(CELL, asked.but(force=True), quiet("2"))
    assert todos == [[(0, 3)], [(0, place) for place in range(4)]]


def test_runs_of_an_old_training_version_are_trained_again(asked, todos):
    old = [replace(record(run), training_version=TRAINING_VERSION + 1) for run in RUNS]
    store(asked, *old)
    run_cell(CELL, asked, quiet("1"))
    assert todos == [[(0, place) for place in range(4)]]


def test_a_budget_says_the_best_score_so_far_and_the_epoch(tmp_path, monkeypatch):
    saved = {"steps": [100, 200], "scores": [0.25, 0.831], "num_steps": 1000}
    monkeypatch.setattr(running.Checkpoint, "load", lambda self, device: saved)
    monkeypatch.setattr(running, "source_of_training", lambda cell, here: "")
    cell = record(RUNS[0], num_steps=1000).cell
    saved["scores"].reverse()
    for each, words in ((None, "step 200 of 1,000"), (50, "epoch 4.0 of 20")):
        protocol = replace(PROTOCOL, steps_per_epoch=each)
        said = reached(tmp_path, [cell], quiet("1").machine, protocol)
        assert said == f"reached 83.1 on validation examples by {words}"
    assert reached(tmp_path, [], quiet("1").machine, PROTOCOL).startswith("no validation score")
