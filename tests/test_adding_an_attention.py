"""docs/adding-an-attention.md, done literally: its files in an empty folder, its command, a row."""

import csv
import json
import re

import pytest

from tests.pages import typed

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("an attention")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return typed("adding-an-attention.md", tmp_path_factory.mktemp("own-mechanism"))


def test_a_mechanism_outside_the_package_gets_a_row_of_the_leaderboard(folder):
    table = (folder / "results" / "leaderboard.md").read_text()
    assert re.search(r"^\|.*\brelu_power\b.*\|$", table, re.MULTILINE)


def test_a_sparse_one_is_timed_in_both_forms(folder):
    with (folder / "sparse" / "table.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["entry"] == "dilated"]
    assert [row["status"] for row in rows] == ["ok", "ok"], [row["reason"] for row in rows]
    assert all(row["executed_flops"] for row in rows)


def test_a_recurrent_one_with_a_gate_decodes(folder):
    with (folder / "decoding" / "table.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["entry"] == "decayed_sum"]
    assert {(row["mode"], row["status"]) for row in rows} == {("forward", "ok"), ("decode", "ok")}


def test_its_cells_are_measured_and_not_skipped(folder):
    with (folder / "results" / "table.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["mechanism"] == "relu_power"]
    settings = {(row["entry"], json.loads(row["hyperparameters"])["power"]) for row in rows}
    assert settings == {("relu_power", 1.5), ("relu_power", 2.0), ("relu_cubed", 3.0)}
    for row in rows:
        assert row["status"] == "ok", row["reason"]
        assert float(row["latency_s"]) > 0
        assert float(row["speedup_over_softmax"]) > 0
