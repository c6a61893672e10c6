"""docs/results/pages.yaml: pages follow from their stored records."""

import importlib
from pathlib import Path

import pytest

from tests import records as made
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
