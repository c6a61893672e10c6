import io
import json

import pytest
from rich.console import Console

from bench.core.cli.errors import ConfigError
from bench.studies.gate.publish import (
    Sides,
    markdown,
    print_rows,
    shown,
    summary,
    write_rows,
)
from bench.studies.gate.verdict import GateVerdict
from tests.bench.studies.gate.fakes import row

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


def printed(rows):
    console = Console(file=io.StringIO(), width=160)
    print_rows(rows, SIDES, console)
    return console.file.getvalue()


def test_failures_come_first_and_unchanged_numbers_are_left_out():
    assert [r.verdict for r in shown(ROWS)] == ["SLOWER", "MORE", "SAME", "new"]


def test_the_sentence_names_the_entries_that_failed_and_no_other():
    assert summary(ROWS).startswith("Regression in linear, performer. 5 numbers compared: 2 SAME")
    assert summary([row(), NEW]).startswith("No regression. 2 numbers compared")


def test_the_terminal_shows_ratio_interval_and_both_numbers():
    text = printed(ROWS)
    assert "bbbb with uncommitted changes against aaaa" in text
    assert "1.200" in text and "[1.100, 1.300]" in text
    assert "7 → 8" in text and "Mind the torch." in text


def test_both_numbers_stand_beside_a_count_that_has_them_and_beside_no_time():
    timed = row(GateVerdict.SLOWER, ratio=1.2, low=1.1, high=1.3, base=0.5, current=0.6)
    one_side = {"ratio": None, "low": None, "high": None}
    new = row(GateVerdict.NEW, "flops", **one_side, base=None, current=8)
    gone = row(GateVerdict.NEW, "flops", **one_side, base=7, current=None)
    assert "→" not in printed([timed, new, gone])


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


def test_a_summary_that_cannot_be_written_is_told_after_the_files_are_there(tmp_path, monkeypatch):
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "no" / "summary.md"))
    with pytest.raises(ConfigError, match=r"GITHUB_STEP_SUMMARY=.* cannot be written"):
        write_rows(ROWS, SIDES, tmp_path)
    assert (tmp_path / "regress.md").exists()
