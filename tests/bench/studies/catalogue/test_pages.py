import math
import re
from pathlib import Path

import pytest
import torch

from attentions.capabilities import PUBLISHED
from attentions.catalogue import catalogue
from bench.core.rows import ON_REQUEST, rows_of
from bench.studies.catalogue import costs as growth
from bench.studies.catalogue.costs import Costs
from bench.studies.catalogue.pages import ADDING, DIFFERENCES, MECHANISMS, all_pages

ENTRIES = [e for e in catalogue() if e.family != PUBLISHED and e.name not in ON_REQUEST]
DOCS = Path(__file__).resolve().parents[4] / "docs"
FIELDS = ("flops", "flops_growth", "memory_growth", "decode_growth")
INDEX = re.findall(
    r"^\| \[`(\w+)`\].*?" + r"\| ([^|]*?) ?" * 4 + r"\|$",
    (DOCS / MECHANISMS).read_text("utf-8"),
    re.M,
)
SAID = {name: dict(zip(FIELDS, said, strict=True)) for name, *said in INDEX}
"""Costs by mechanism and field, as the index in docs/ says them."""


def said_costs(name):
    """Costs as the index says them: counting them takes most of the time of all pages."""
    flops, *growths = SAID.get(name, dict.fromkeys(FIELDS, "0")).values()
    grown = {field: growth or None for field, growth in zip(FIELDS[1:], growths, strict=True)}
    return Costs(flops=round(float(flops) * 1e9), **grown)


def counted(name):
    """The same fields of the costs that are counted now."""
    now = growth.costs(name)
    return {"flops": f"{now.flops / 1e9:.3g}"} | {f: getattr(now, f) or "" for f in FIELDS[1:]}


@pytest.fixture(scope="module")
def pages():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bench.studies.catalogue.pages.costs", said_costs)
        return all_pages()


@pytest.mark.slow
def test_costs_are_what_the_index_says():
    assert {entry.name: counted(entry.name) for entry in ENTRIES} == SAID


@pytest.mark.parametrize("name", ["softmax", "gla"])
def test_costs_of_a_square_and_of_a_state_are_what_the_index_says(name):
    assert counted(name) == SAID[name]


def test_the_pages_are_what_their_sources_say(pages):
    written = {p.relative_to(DOCS).as_posix() for p in DOCS.glob("mechanisms/*")}
    assert written | {MECHANISMS, DIFFERENCES, ADDING, "results/launches.md"} == pages.keys()
    old = [name for name in pages if (DOCS / name).read_text("utf-8") != pages[name]]
    assert not old, f"old: {', '.join(old)}; run python -m bench.studies.catalogue.pages"


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_the_programs_of_a_page_train_a_layer_that_counts_on(entry, pages, one_thread):
    for package in entry.capabilities.requires:
        pytest.importorskip(package)
    programs = re.findall(
        r"^```python\n(.*?)^```", pages[f"mechanisms/{entry.name}.md"], re.M | re.S
    )
    assert len(programs) == 1 + entry.capabilities.recurrent
    if 'device="cuda"' in programs[0] and not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")
    torch.manual_seed(0)
    names = {}
    for program in programs:
        exec(program, names)
    assert names["loss"] < 0.3 * math.log(8), "eight tokens or classes, one as likely as another"
    if entry.capabilities.recurrent:  # the prompt is 0 to 7 twice; eight tokens follow
        assert names["token"].flatten().tolist() == [7] * 4


def test_every_mechanism_has_a_page_with_its_formula_rows_and_hazards(pages):
    for entry in ENTRIES:
        page = pages[f"mechanisms/{entry.name}.md"]
        first = page.index("```text") if "```text" in page else page.index("-->")
        assert first < page.index("| source |") < page.index("## Cost") < page.index("## Hazards")
        shown = set(rows_of(entry.name)) - ON_REQUEST
        assert all(f"`{row}`" in page for row in shown)
        assert all(f"| `{name}` | `{value}` |" in page for name, value in entry.defaults.items())
        assert "## Tested" in page


def test_the_index_has_each_mechanism_in_its_family_and_in_its_year(pages):
    families, _, years = pages[MECHANISMS].partition("## By year")
    for entry in ENTRIES:
        link = f"[`{entry.name}`](mechanisms/{entry.name}.md)"
        assert families.count(link) == 1
        assert (link in years) == (entry.family != "control"), entry.name
    assert "\n| 2017 | [`softmax`]" in years


def test_the_page_of_differences_leads_to_every_mechanism_but_controls_and_adapters(pages):
    for entry in ENTRIES:
        told = f"[`{entry.name}`](mechanisms/{entry.name}.md)" in pages[DIFFERENCES]
        is_left_out = entry.family == "control" or entry.capabilities.requires
        assert told != bool(is_left_out), entry.name
