"""docs/adding-a-study.md, done literally: its file in an empty folder, its command, its page."""

import csv
import re
import runpy
import sys

import pytest

from tests.pages import FENCE, text_of, typed

PAGE = "adding-a-study.md"
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("a study")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return typed(PAGE, tmp_path_factory.mktemp("own-study"))


@pytest.fixture
def run(folder, monkeypatch, capsys):
    """`run(words)`: the exit code of the study, called from this process, and what it said."""

    def call(*words):
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", ["rank_recall.py", *words])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path("rank_recall.py", run_name="__main__")
        return ended.value.code, capsys.readouterr().err

    return call


def test_a_study_is_one_file_of_at_most_130_lines():
    code = next(
        text for _, what, text in FENCE.findall(text_of(PAGE)) if what == "file=rank_recall.py"
    )
    assert len(code.splitlines()) <= 130
    assert max(map(len, code.splitlines())) <= 100


def test_its_page_and_its_numbers_say_what_was_found(folder):
    out = folder / "results" / "rank_recall"
    page = (out / "rank_recall.md").read_text()
    assert "    python rank_recall.py 'attention=[softmax,linear]' num_steps=2 'seed=[0,1]'" in page
    assert re.search(r"rank correlation over 2 mechanisms: -?1\.00\.", page)
    with (out / "rank_recall.csv").open(newline="") as file:
        rows = {row["attention"]: row for row in csv.DictReader(file)}
    assert rows.keys() == {"softmax", "linear"}
    assert all(1 <= float(row["rank"]) <= 64 for row in rows.values())
    assert all(0 <= float(row["accuracy"]) <= 1 for row in rows.values())
    assert (out / "points.jsonl").read_text().count("\n") == 2


def test_the_same_command_trains_nothing_again(folder, run):
    store = folder / "results" / "rank_recall" / "records"
    before = {file.name: file.read_bytes() for file in store.iterdir()}
    code, said = run("attention=[softmax,linear]", "num_steps=2", "seed=[0,1]")
    assert code == 0, said
    assert {file.name: file.read_bytes() for file in store.iterdir()} == before


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("num_step=3", "num_step"),
        ("seed=[]", "seed=[] is empty."),
    ],
)
def test_a_wrong_setting_is_a_sentence_and_exit_code_2(run, word, message):
    code, said = run(word)
    assert code == 2 and message in said and "Traceback" not in said
