"""docs/results/pages.yaml: pages follow from their stored records."""

import importlib
from pathlib import Path

import pytest

from bench.core.cli.errors import ConfigError
from bench.core.store import Store
from tests import records as made
from tools import studies_pages
from tools.studies_pages import COMMAND_PAGES, CommandPage, Page, changed, main, read_pages


def test_every_page_names_its_store_its_command_and_a_writer():
    for name, page in read_pages().items():
        assert callable(importlib.import_module(page.writer).write_page), name
        assert all(line.startswith("attnbench ") for line in page.command.splitlines()), name
        assert f"out={page.store}" in page.command, name


def test_pages_of_commands_are_compared_too(tmp_path, monkeypatch):
    assert {"reproductions", "advice", "speed"} == {*COMMAND_PAGES}

    def write(path: Path) -> list[Path]:
        path.write_text("# as stored\n")
        return [path]

    monkeypatch.setitem(COMMAND_PAGES, "advice", CommandPage("results/", tmp_path, write))
    assert main(["check=true", "advice"]) == 1
    assert main(["advice"]) == 0
    assert main(["check=true", "advice"]) == 0


def test_titles_tell_pages_apart(tmp_path):
    pages = read_pages().values()
    titles = [page.title for page in pages if page.writer == "bench.publishing.accuracy"]
    assert all(titles) and len({title.partition(":")[0] for title in titles}) == len(titles)
    made.stored(tmp_path / "runs", *made.task_records(["softmax", "nala"]), name="sweep")
    words = {"writer": "bench.publishing.accuracy", "command": "make bench", "title": "Which one?"}
    page, *_ = Page(store=tmp_path / "runs", **words).write(tmp_path / "recall.md")
    assert page.read_text().startswith("# Which one?\n")


@pytest.mark.parametrize("name", ["spans", "extrapolation"])
def test_a_stored_page_is_what_its_records_give(name):
    assert list(changed(name, read_pages()[name])) == []


def test_a_page_that_was_changed_by_hand_is_named(tmp_path):
    made.stored(tmp_path / "runs", *made.task_records(["softmax", "nala"]), name="sweep")
    page = Page(store=tmp_path / "runs", writer="bench.publishing.accuracy", command="make bench")
    docs = tmp_path / "docs"
    page.write(docs / "recall.md")
    assert list(changed("recall", page, docs)) == []
    (docs / "recall.md").write_text("# 100 %\n")
    assert list(changed("recall", page, docs)) == ["recall.md"]


def test_a_misspelt_key_is_refused(tmp_path):
    file = tmp_path / "pages.yaml"
    file.write_text("recall: {store: a, writer: b, comand: c}\n")
    with pytest.raises(ConfigError, match=r"recall\.comand"):
        read_pages(file)


def test_a_page_without_records_ends_with_2_and_hides_no_other(
    tmp_path, monkeypatch, capsys, exits
):
    Store(tmp_path / "runs", "sweep").append(made.task_records(["softmax"])[0])
    absent, stored = (
        Page(store=tmp_path / name, writer="bench.publishing.accuracy", command="make bench")
        for name in ("nowhere", "runs")
    )
    monkeypatch.setattr(studies_pages, "read_pages", lambda: {"absent": absent, "stored": stored})
    assert "absent: There are no records" in exits(2, main(["check=true", "absent"]))
    assert main(["check=true"]) == 2
    assert "stored: not what" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["check=1"], "check is true or false"),
        (["check=True", "spans"], "check is true or false"),
        (["chek=true"], "Did you mean check"),
        (["span"], "There is no page span. Did you mean spans"),
        (["check=true", "nothing"], "There is no page nothing"),
    ],
)
def test_a_misspelt_word_is_refused_and_nothing_is_written(words, said, monkeypatch, exits):
    def never(page, path):
        raise AssertionError(path)

    monkeypatch.setattr(Page, "write", never)
    assert said in exits(2, main(words))
