"""docs/results/pages.yaml: pages follow from their stored records."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from bench.core.cli.errors import ConfigError
from bench.core.store import Store
from tests import records as made
from tools.studies_pages import FOLDER, ROOT, Page, changed, main, read_pages


def test_every_page_names_its_store_its_command_and_a_writer() -> None:
    for name, page in read_pages().items():
        assert callable(importlib.import_module(page.writer).write_page), name
        assert all(line.startswith("attnbench ") for line in page.command.splitlines()), name
        assert f"out={page.store}" in page.command, name


@pytest.mark.parametrize("name", ["recall_causal", "extrapolation"])
def test_a_stored_page_is_what_its_records_give(name: str) -> None:
    assert list(changed(name, read_pages()[name])) == []


def test_a_page_that_was_changed_by_hand_is_named(tmp_path: Path) -> None:
    store = Store(tmp_path / "runs", "sweep")
    for record in made.task_records(["softmax", "nala"]):
        store.append(record)
    page = Page(store=tmp_path / "runs", writer="bench.publishing.accuracy", command="make bench")
    docs = tmp_path / "docs"
    page.write(docs / "recall.md")
    assert list(changed("recall", page, docs)) == []
    (docs / "recall.md").write_text("# 100 %\n")
    assert list(changed("recall", page, docs)) == ["recall.md"]


def test_a_misspelt_key_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "pages.yaml"
    file.write_text("recall: {store: a, writer: b, comand: c}\n")
    with pytest.raises(ConfigError, match=r"recall\.comand"):
        read_pages(file)


def test_a_page_without_records_ends_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    missing = [n for n, page in read_pages().items() if not (ROOT / page.store).exists()]
    assert all(main(["check=true", name]) == 2 for name in missing)
    assert all(not (FOLDER / f"{name}.md").exists() for name in missing)
