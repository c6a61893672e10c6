from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch

pytest.importorskip("timm")

from attentions.models import build_model
from bench.measuring.measure.flops import count_with_fvcore
from bench.studies.catalogue import models_page
from bench.studies.catalogue.models_page import PAGE, count_claimed, count_published, page
from bench.studies.catalogue.published_sizes import CLAIMS, FVCORE

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

STAGES = {
    "swin_tiny": "softmax",
    "nalaformer_t": "`nala_layer` in stages 1 and 2, else softmax",
    "nala_swin_tiny": "`nala_layer` in stages 1, 2 and 3, else softmax",
    "nalaformer_t_linear": "`nala_layer`",
}
"""Attention of models as published, in words."""


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


def test_the_printed_sizes_of_pvt_v2_are_explained_by_the_arithmetic_of_their_notes():
    b2 = counted("flatten_pvt_v2_b2").parameters / 1e6
    assert f"{b2:.1f}" != "22.6" and f"{float(f'{b2:.2f}') + 1e-9:.1f}" == "22.6"
    b1 = 4 * counted("pvt_v2_b1").parameters
    assert (round(b1 / 1e6), round(b1 / 2**20)) == (56, 53)
    assert (round(4 * 13.1), round(4 * 13.1e6 / 2**20)) == (52, 50)


def rows_of_claims(monkeypatch, *claims):
    """The last lines of the page's part on claims: a row per claim, then its notes."""
    monkeypatch.setattr(models_page, "CLAIMS", claims)
    table, *notes = models_page._claims({c.model: counted(c.model) for c in claims})
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in table.splitlines()[2:]]
    return rows, [note for note in notes if note]


def test_a_claim_agrees_only_with_both_of_its_sizes_and_notes_are_numbered(monkeypatch):
    (known,) = (c for c in CLAIMS if c.model == "nalaformer_t" and c.change is not None)
    changed = count_claimed(known)
    parameters, multiply_adds = known.convention.of(changed)
    size = f"{parameters / 1e6:.3f}M, {multiply_adds / 1e9:.3f}G"
    plain = replace(known, change=None, note="")
    own = known.convention.of(counted("nalaformer_t"))
    right = replace(plain, parameters=f"{own[0] / 1e6:.1f}", multiply_adds=f"{own[1] / 1e9:.1f}")
    half = replace(right, parameters="1.0", note="half")
    rows, notes = rows_of_claims(monkeypatch, known, right, half, replace(known, parameters="1"))
    assert [row[4] for row in rows] == [f"at {size} [1]", "yes", "no [2]", "no [3]"]
    assert [note[:3] for note in notes] == ["1. ", "2. ", "3. "] and notes[1] == "2. half"
    assert rows[1][1] == f"{right.parameters}M, {right.multiply_adds}G"


def test_attention_as_published_is_said_by_its_stages():
    said = {name: models_page._published(models_page.model_info(name)) for name in STAGES}
    assert said == STAGES


@pytest.mark.slow
def test_what_the_page_says_of_fvcore_is_what_it_counts():
    with torch.no_grad():
        seen = count_with_fvcore(build_model("pvt_tiny").eval(), (torch.zeros(1, 3, 224, 224),))
    said = FVCORE["pvt_tiny"]
    assert seen.flops == 2 * said["multiply_adds"]
    assert {f"aten::{name}" for name in said["unsupported"]} <= seen.unsupported.keys()


@pytest.mark.slow
def test_the_page_is_what_is_counted():
    assert (DOCS / PAGE).read_text() == page(), "run python -m bench.models"
