from __future__ import annotations

import re
from pathlib import Path

import pytest

from attentions.capabilities import PUBLISHED
from attentions.catalogue import catalogue
from bench.core.cell import Cell
from bench.core.rows import ON_REQUEST, rows_of
from bench.measuring.costs import growth
from bench.studies.catalogue.pages import ADDING, DIFFERENCES, MECHANISMS, all_pages

ENTRIES = [e for e in catalogue() if e.family != PUBLISHED and e.name not in ON_REQUEST]
DOCS = Path(__file__).resolve().parents[4] / "docs"
GROWTHS = dict(
    re.findall(
        r"^\| \[`(\w+)`\].*\| ([^|]*?) ?\| [^|]*\|$",
        (DOCS / MECHANISMS).read_text("utf-8"),
        re.MULTILINE,
    )
)
"""Growth of memory by mechanism, as the index in docs/ says it."""


def said_peak(cell: Cell) -> int | None:
    """Bytes that grow as the index says; dry runs take most of the time of all pages."""
    said = GROWTHS.get(cell.mechanism, "")
    exponent = {"1": "0", "N": "1"}.get(said, said.removeprefix("N^"))
    return round(cell.kernel.seq_len ** float(exponent)) if exponent else None


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(growth, "peak_bytes_of", said_peak)
        return all_pages()


@pytest.mark.slow
def test_memory_grows_as_the_index_says() -> None:
    found = {entry.name: growth.costs(entry.name).memory_growth or "" for entry in ENTRIES}
    assert found == GROWTHS


def test_the_pages_are_what_their_sources_say(pages: dict[str, str]) -> None:
    written = {p.relative_to(DOCS).as_posix() for p in DOCS.glob("mechanisms/*")}
    assert written | {MECHANISMS, DIFFERENCES, ADDING} == pages.keys()
    old = [name for name in pages if (DOCS / name).read_text("utf-8") != pages[name]]
    assert not old, f"old: {', '.join(old)}; run python -m bench.studies.catalogue.pages"


def test_every_mechanism_has_a_page_with_its_formula_rows_and_hazards(
    pages: dict[str, str],
) -> None:
    for entry in ENTRIES:
        page = pages[f"mechanisms/{entry.name}.md"]
        first = page.index("```text") if "```text" in page else page.index("-->")
        assert first < page.index("| source |") < page.index("## Cost") < page.index("## Hazards")
        shown = set(rows_of(entry.name)) - ON_REQUEST
        assert all(f"`{row}`" in page for row in shown)
        assert all(f"| `{name}` | `{value}` |" in page for name, value in entry.defaults.items())
        assert "## Tested" in page


def test_a_page_leads_to_the_tables_in_which_its_rows_are(pages: dict[str, str]) -> None:
    nala = pages["mechanisms/nala.md"]
    assert "- [Accuracy on recall, over 3 seeds](../results/recall.md)" in nala
    assert "https://arxiv.org/abs/2506.21137" in nala and "## Differences" in nala
    assert "recall_causal.md" not in nala and "](../mechanisms.md)" not in nala


def test_the_index_has_each_mechanism_in_its_family_and_in_its_year(pages: dict[str, str]) -> None:
    families, _, years = pages[MECHANISMS].partition("## By year")
    for entry in ENTRIES:
        link = f"[`{entry.name}`](mechanisms/{entry.name}.md)"
        assert families.count(link) == 1
        assert (link in years) == (entry.family != "control"), entry.name
    assert "\n| 2017 | [`softmax`]" in years


def test_every_mechanism_but_the_controls_is_on_the_page_of_differences(
    pages: dict[str, str],
) -> None:
    for entry in ENTRIES:
        told = f"[{entry.name}](mechanisms/{entry.name}.md)" in pages[DIFFERENCES]
        assert told == (entry.family != "control"), entry.name
