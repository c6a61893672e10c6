from pathlib import Path

import pytest

pytest.importorskip("timm")

from attentions.models import model_names
from bench.model_claims import CLAIMS
from bench.models import PAGE, count_claimed, count_published, page

DOCS = Path(__file__).resolve().parents[2] / "docs"
DIFFER = {"nalaformer_xt": (False, False), "pola_pvt_tiny": (True, False)}
"""Those whose printed digits are reached by nothing that is known; the page says so."""


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.model)
def test_sizes_are_those_that_papers_print(claim):
    assert claim.agrees(count_claimed(claim)) == DIFFER.get(claim.model, (True, True))


@pytest.mark.parametrize(
    "claim", [c for c in CLAIMS if c.change is not None], ids=lambda claim: claim.model
)
def test_a_change_of_the_model_is_claimed_only_where_it_is_needed(claim):
    assert claim.agrees(count_published(claim.model)) != (True, True)


def test_every_difference_has_a_note():
    for claim in CLAIMS:
        if claim.change is not None or claim.model in DIFFER:
            assert claim.note, claim.model


def test_the_page_is_what_is_counted_and_names_every_model():
    text = page()
    assert (DOCS / PAGE).read_text() == text, "run python -m bench.models"
    assert all(f"| `{name}` |" in text for name in model_names())
