"""Whole models from the command line to a row, and the mistakes that stop there."""

import csv
import shutil

import pytest

from bench import regress
from tests.bench.measuring.models.cells import FACTORY
from tests.test_walk import attnbench, records

QUICK = ["image_size=32", "measure.budget_s=0.01", "measure.min_rounds=2", "charts=false"]


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    shutil.copy(FACTORY, folder / "mine.py")
    # The workers that tests share have another current folder.
    words = ["scope=model", "attention=[linear,gla]", f"model=[{folder}/mine.py:build]", *QUICK]
    words += ["mode=train_step", "batch_size=[2]", "out=here"]
    return folder, attnbench(*words, cwd=folder)


def test_a_model_of_ones_own_is_a_row_as_it_is_and_with_entries_in_it(first):
    found = {r["entry"]: r for r in records(first[0] / "here")}
    assert {name: r["status"] for name, r in found.items()} == {
        "original": "ok",
        "linear": "ok",
        "gla": "skipped",
    }
    speed = found["linear"]["result"]
    assert len(speed["latency_s"]) == len(speed["reference_latency_s"]) >= 2
    assert speed["num_parameters"] > 0 and speed["flops"] > 0 and speed["peak_memory_bytes"] > 0
    assert speed["rms_error"] is not None and speed["tokens_per_call"] == 0
    assert found["linear"]["environment"]["versions"]["timm"] is not None


def test_its_table_is_in_images_and_names_the_model(first):
    folder, terminal = first
    page = (folder / "here" / "leaderboard.md").read_text()
    assert "## Whole models" in page and f"### {folder}/mine.py:build · cpu" in page
    assert "images/s" in page and "images/s" in terminal
    with (folder / "here" / "table.csv").open(newline="") as file:
        rows = {row["entry"]: row for row in csv.DictReader(file)}
    assert float(rows["linear"]["throughput_images_per_s"]) > 0
    assert rows["linear"]["throughput_tokens_per_s"] == ""


def test_models_are_not_compared_and_the_gate_says_so(tmp_path, exits):
    heard = exits(2, regress.main(["scope=model", f"out={tmp_path}"]))
    assert "scope=model is not compared" in heard
