from __future__ import annotations

from pathlib import Path

import pytest

from attentions.capabilities import PUBLISHED
from attentions.catalogue import catalogue
from bench.core.rows import rows_of
from bench.studies.catalogue.pages import DIFFERENCES, MECHANISMS, all_pages

ENTRIES = [entry for entry in catalogue() if entry.family != PUBLISHED]
DOCS = Path(__file__).resolve().parents[4] / "docs"


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    return all_pages()


@pytest.mark.parametrize("name", [MECHANISMS, DIFFERENCES])
def test_the_page_is_what_its_sources_say(pages: dict[str, str], name: str) -> None:
    written = (DOCS / name).read_text(encoding="utf-8")
    assert written == pages[name], (
        f"docs/{name} is old; run python -m bench.studies.catalogue.pages"
    )


def test_every_mechanism_has_a_section_its_rows_and_its_hazards(pages: dict[str, str]) -> None:
    sections = pages[MECHANISMS].split("\n### ")
    by_name = {section.partition("\n")[0]: section for section in sections[1:]}
    assert by_name.keys() == {entry.name for entry in ENTRIES}
    for entry in ENTRIES:
        section = by_name[entry.name]
        assert entry.source in section and "Hazards:" in section
        assert all(f"`{row}`" in section for row in rows_of(entry.name))
        assert all(f"| `{name}` | `{value}` |" in section for name, value in entry.defaults.items())


def test_every_mechanism_but_the_controls_is_on_the_page_of_differences(
    pages: dict[str, str],
) -> None:
    for entry in ENTRIES:
        told = f"[{entry.name}](mechanisms.md#{entry.name})" in pages[DIFFERENCES]
        assert told == (entry.family != "control"), entry.name
