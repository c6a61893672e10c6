"""docs/adding-an-attention.md, done literally: its files in an empty folder, its command, a row."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

from tests.pages import typed


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return typed("adding-an-attention.md", tmp_path_factory.mktemp("own-mechanism"))


def test_a_mechanism_outside_the_package_gets_a_row_of_the_leaderboard(folder: Path) -> None:
    table = (folder / "results" / "leaderboard.md").read_text()
    assert re.search(r"^\|.*\brelu_scores\b.*\|$", table, re.MULTILINE)


def test_a_recurrent_one_with_a_gate_decodes(folder: Path) -> None:
    with (folder / "decoding" / "table.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["entry"] == "decayed_sum"]
    assert {(row["mode"], row["status"]) for row in rows} == {("forward", "ok"), ("decode", "ok")}


def test_its_cells_are_measured_and_not_skipped(folder: Path) -> None:
    with (folder / "results" / "table.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["entry"] == "relu_scores"]
    assert rows
    for row in rows:
        assert row["status"] == "ok", row["reason"]
        assert row["mechanism"] == "relu_scores"
        assert float(row["latency_s"]) > 0
        assert float(row["speedup_over_softmax"]) > 0


def test_nothing_is_left_outside_of_the_results(folder: Path) -> None:
    left = {path.name for path in folder.iterdir()}
    assert left - {"__pycache__"} == {
        "relu_scores.py",
        "decayed_sum.py",
        "squared_scores.py",
        "conf",
        "results",
        "decoding",
    }
