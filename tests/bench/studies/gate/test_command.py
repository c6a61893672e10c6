import json

import pytest

from bench.core.cli.errors import ConfigError
from bench.studies.gate.command import (
    Sides,
    markdown,
    read_gate_config,
    shown,
    summary,
    write_rows,
)
from bench.studies.gate.rows import GateVerdict
from tests.bench.measuring.test_config import BASE
from tests.bench.studies.gate.fakes import row

GATE = BASE | {
    "base": None,
    "baseline": None,
    "current": None,
    "threshold": 0.03,
    "stored_threshold": 0.2,
    "family_error": 0.01,
    "accept": [],
    "budget_s": 15,
    "task_settings": {"num_steps": 40},
}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"threshold": -0.01}, "threshold is -0.01; it must be 0 or more"),
        ({"threshold": 1.5}, "threshold is 1.5; it must be 1 or less"),
        ({"stored_threshold": 11}, "stored_threshold is 11; it must be 10 or less"),
        ({"family_error": 0.6}, "family_error is 0.6; it must be 0.5 or less"),
        ({"budget_s": float("inf")}, "budget_s is inf; it takes a finite number"),
        ({"base": "main", "baseline": "x"}, "base and baseline are given; choose one"),
        ({"current": "x"}, "current is given without baseline"),
        ({"accept": ["nala/flops"]}, "without a reason"),
    ],
)
def test_a_wrong_key_is_refused_with_what_it_takes(changes, words):
    with pytest.raises(ConfigError) as caught:
        read_gate_config(GATE | changes)
    assert words in str(caught.value)


def test_task_settings_make_every_training_run_short():
    config = read_gate_config(GATE | {"task_settings": {"num_steps": 3}})
    assert config.sweep.task[0].settings["num_steps"] == 3


SIDES = Sides(base="aaaa", current="bbbb with uncommitted changes", notes=("Mind the torch.",))
SLOWER = row(GateVerdict.SLOWER, entry="performer", ratio=1.2, low=1.1, high=1.3)
MORE = row(
    GateVerdict.MORE,
    "num_operators",
    entry="linear",
    ratio=8 / 7,
    low=8 / 7,
    high=8 / 7,
    base=7,
    current=8,
)
NEW = row(GateVerdict.NEW, entry="dpfp", ratio=None, low=None, high=None, reason="no | *such* one")
ROWS = [row(), row(channel="flops"), NEW, SLOWER, MORE]


@pytest.fixture(autouse=True)
def outside_of_github(monkeypatch):
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)


def test_failures_come_first_and_unchanged_numbers_are_left_out():
    assert [r.verdict for r in shown(ROWS)] == ["SLOWER", "MORE", "SAME", "new"]


def test_the_sentence_names_the_entries_that_failed_and_no_other():
    assert summary(ROWS).startswith("Regression in linear, performer. 5 numbers compared: 2 SAME")
    assert summary([row(), NEW]).startswith("No regression. 2 numbers compared")


def test_markdown_shows_failures_openly_and_folds_the_rest():
    text = markdown(ROWS, SIDES)
    openly, _, folded = text.partition("<details>")
    assert "performer" in openly and "linear" in openly and "dpfp" not in openly
    assert "dpfp" in folded and text.startswith("### attnbench\n")
    assert "no \\| \\*such\\* one" in folded
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.replace("\\|", "").count("|") for line in tables} == {7}


def test_files_hold_the_rows_in_each_form(tmp_path):
    files = write_rows(ROWS, SIDES, tmp_path)
    assert {file.name for file in files} == {"regress.json", "regress.md"}
    rows = json.loads((tmp_path / "regress.json").read_text())
    assert rows == [r.to_dict() for r in ROWS]
    assert (tmp_path / "regress.md").read_text() == markdown(ROWS, SIDES)


def test_the_step_summary_is_added_to(tmp_path, monkeypatch):
    summary_file = tmp_path / "summary.md"
    summary_file.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary_file))
    write_rows(ROWS, SIDES, tmp_path)
    assert summary_file.read_text() == "before\n" + markdown(ROWS, SIDES)
