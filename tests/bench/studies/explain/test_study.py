"""The command: a table and files, models that are kept, and what is refused or skipped."""

import json

import pytest

from bench.explain import main
from bench.measuring.tasks import train
from bench.measuring.tasks.train import Diverged
from bench.studies.explain import study
from bench.studies.explain.methods import SCORES, Scores

TINY = ["num_images=6", "canvas.embed_dim=8", "canvas.num_heads=1", "canvas.num_steps=4"]
METHODS = ["rollout", "attention_gradient_rollout", "decision_aware", "random"]


@pytest.fixture
def words(tmp_path):
    return [*TINY, "canvas.batch_size=8", f"out={tmp_path / 'out'}"]


def table_of(tmp_path):
    _, *lines = (tmp_path / "out" / "explain.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_every_method_has_a_row_and_a_trained_model_is_not_trained_again(
    words, tmp_path, exits, monkeypatch
):
    shown = exits(0, main([*words, "attention=[softmax,nala_layer]"]))
    assert "nala_layer is skipped: nala_layer has no weights to look at" in shown
    assert "6 test images, models of seed 0" in shown and "bootstrap over images" in shown
    first = table_of(tmp_path)
    assert [row["method"] for row in first] == METHODS
    assert all(0 <= x <= 1 for row in first for x in (row["accuracy"], *row["samples"]["mass"]))
    page = (tmp_path / "out" / "explain.md").read_text()
    assert "attnbench explain 'attention=[softmax,nala_layer]'" in page
    monkeypatch.setattr("bench.measuring.tasks.train.fit", None)  # what would train
    assert main([*words, "attention=[softmax]"]) == 0
    assert table_of(tmp_path) == first
    monkeypatch.setattr(study, "_CHUNK", 4)  # six images in two parts of unequal size
    assert main([*words, "attention=[softmax]"]) == 0
    assert [row["accuracy"] for row in table_of(tmp_path)] == [row["accuracy"] for row in first]


def made_up(method, value):
    samples = {name: (value, value + 0.1) for name in SCORES}
    more = {"identity": "after_prior", "samples": samples, "inserted": (0.0, 1.0)}
    return Scores(entry="softmax", method=method, seed=0, accuracy=0.5, **more)


def test_differences_are_those_of_a_method_to_rollout_on_the_same_model():
    both = [made_up("rollout", 0.2), made_up("decision_aware", 0.5)]
    means, differences = study._tables(both)
    assert [row["mass"].value for row in means.rows] == pytest.approx([0.25, 0.55])
    (row,) = differences.rows
    assert row["explain"] == "decision_aware" and row["mass"].value == pytest.approx(0.3)


def test_ctrl_c_keeps_what_is_done(words, tmp_path, capsys, monkeypatch):
    fitted, calls = train.fitted, []

    def stops(cell, *more):
        calls.append(cell.entry)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return fitted(cell, *more)

    monkeypatch.setattr(train, "fitted", stops)
    assert main([*words, "attention=[softmax,linear]", "explain=random"]) == 130
    assert "The same command goes on from here" in capsys.readouterr().out
    assert [row["entry"] for row in table_of(tmp_path)] == ["softmax"]
    assert "Stopped after 1 of 2 models." in (tmp_path / "out" / "explain.md").read_text()


def test_a_page_for_docs_has_its_command_seeds_pictures_and_reading(words, tmp_path, capsys):
    docs = tmp_path / "docs"
    more = ["seed=[0,1]", "identity=before_prior", f"docs={docs}"]
    assert main([*words, *more, "attention=[softmax]", "explain=[rollout,decision_aware]"]) == 0
    page = (docs / "explain.md").read_text()
    assert "'attention=[softmax]' num_images=6" in page
    assert "'explain=[rollout,decision_aware]'" in page
    assert "docs=" not in page and " out=" not in page
    assert "models of seed 0, 1. Intervals: 95 %, Student's t over 2 seeds." in page
    assert "| softmax   | decision_aware | +" in page or "| softmax   | decision_aware | -" in page
    assert "`identity=before_prior`: half of the identity is added first" in page
    assert "![Insertion of patches: softmax](explain/insertion-softmax.svg)" in page
    assert (docs / "explain" / "insertion-softmax.svg").is_file()
    kept = {file.name for file in (tmp_path / "out").iterdir()}
    assert kept == {"checkpoints", "explain.jsonl"}
    command = next(line.strip() for line in page.splitlines() if "attnbench explain" in line)
    study.write_page(tmp_path / "out", tmp_path / "explain.md", command)
    assert (tmp_path / "explain.md").read_text() == page, "the scores give the page"


def test_a_model_that_diverges_is_named_on_the_page(words, tmp_path, exits, monkeypatch):
    fitted = train.fitted

    def diverges(cell, *more):
        if cell.entry == "linear":
            raise Diverged(3, float("nan"))
        return fitted(cell, *more)

    monkeypatch.setattr(train, "fitted", diverges)
    said = exits(0, main([*words, "attention=[softmax,linear]", "explain=random"]))
    assert "linear seed 0 is left out: training left the finite numbers at step 3" in said
    assert "linear seed 0 is left out" in (tmp_path / "out" / "explain.md").read_text()


def test_intervals_are_said_row_by_row_where_models_are_missing(words, tmp_path, monkeypatch):
    fitted = train.fitted

    def diverges(cell, *more):
        if (cell.entry, cell.task.seed) == ("linear", 1):
            raise Diverged(3, float("nan"))
        return fitted(cell, *more)

    monkeypatch.setattr(train, "fitted", diverges)
    assert main([*words, "seed=[0,1]", "attention=[softmax,linear]", "explain=random"]) == 0
    page = (tmp_path / "out" / "explain.md").read_text()
    assert "t over the models of a row (2 of softmax, 1 of linear); for one model" in page


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["attention=[nala_layer,gla]"], "it owns its projections. gla is skipped: gla is causal"),
        (["attention=[gla_softmax]"], "gla_softmax names 4 layers, and canvas has num_layers=2"),
    ],
)
def test_what_cannot_be_explained_ends_with_2(words, more, message, exits):
    assert message in exits(2, main([*words, *more]))
