from functools import cache
from pathlib import Path

import pytest

pytest.importorskip("timm")

from attentions.models import model_names
from bench.studies.catalogue import models_page
from bench.studies.catalogue.models_page import PAGE, count_claimed, count_published, page
from bench.studies.catalogue.published_sizes import CLAIMS

DOCS = Path(__file__).resolve().parents[4] / "docs"
NALA_README = "README of the release"
NALA_TABLE = "NaLaFormer, arXiv:2506.21137v1, Table 1"
FLATTEN_TABLE = "FLatten, arXiv:2308.00442, Figure 6"
DIFFER = {
    ("nalaformer_xt", NALA_README): (False, False),
    ("pola_pvt_tiny", NALA_TABLE): (True, False),
    ("flatten_pvt_v2_b2", FLATTEN_TABLE): (False, True),
    ("pvt_v2_b1", FLATTEN_TABLE): (False, True),
}
"""Those whose printed digits are not those of the model; the page says what is known of why."""


@pytest.fixture(autouse=True, scope="module")
def each_is_counted_once():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models_page, "count_published", counted)
        yield


counted = cache(count_published)


def named(claim):
    return f"{claim.model} in {claim.table}"


@pytest.mark.parametrize("claim", CLAIMS, ids=named)
def test_sizes_are_those_that_papers_print(claim):
    wanted = DIFFER.get((claim.model, claim.table), (True, True))
    assert claim.agrees(count_claimed(claim)) == wanted


@pytest.mark.parametrize("claim", [c for c in CLAIMS if c.change is not None], ids=named)
def test_a_change_of_the_model_is_claimed_only_where_it_is_needed(claim):
    assert claim.agrees(counted(claim.model)) != (True, True)


def test_every_difference_has_a_note():
    for claim in CLAIMS:
        differs = (claim.model, claim.table) in DIFFER
        assert claim.note or not (differs or claim.change is not None), named(claim)


def test_no_model_is_claimed_twice_from_one_table():
    assert len({(claim.model, claim.table) for claim in CLAIMS}) == len(CLAIMS)
    assert {(claim.model, claim.table) for claim in CLAIMS} >= set(DIFFER)


def test_the_printed_sizes_of_pvt_v2_are_explained_by_the_arithmetic_of_their_notes():
    b2 = counted("flatten_pvt_v2_b2").parameters / 1e6
    assert f"{b2:.1f}" != "22.6" and f"{float(f'{b2:.2f}') + 1e-9:.1f}" == "22.6"
    b1 = 4 * counted("pvt_v2_b1").parameters
    assert (round(b1 / 1e6), round(b1 / 2**20)) == (56, 53)
    assert (round(4 * 13.1), round(4 * 13.1e6 / 2**20)) == (52, 50)


@pytest.mark.slow
def test_the_page_is_what_is_counted():
    assert (DOCS / PAGE).read_text() == page(), "run python -m bench.models"


def test_the_page_names_every_model():
    text = (DOCS / PAGE).read_text()
    assert all(f"| `{name}` |" in text for name in model_names())
