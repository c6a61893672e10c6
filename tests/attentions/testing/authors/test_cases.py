"""Golden cases that are about a mechanism: all of the project's own, copies, and damaged ones."""

import json

import pytest

from attentions import attention_names
from attentions.testing.authors.build import is_published
from attentions.testing.authors.cases import Goldens, golden_runs, unregistered
from attentions.testing.authors.files import GoldenFolder
from attentions.testing.authors.proof import Proof, ProofStatus
from attentions.testing.check import Broken, Untestable
from tests.attentions.testing.authors.copies import PUBLIC, SMALL, copy_case

ANOTHER_FORM = {
    "performer/softmax_causal_b1h2n60d32m40",
    "performer/softmax_causal_b2h2n49d16m24",
}


def proofs_in(folder, *names):
    """Proofs of golden cases, in the order of their names."""
    found = []
    for name in names or attention_names():
        for golden, run in golden_runs(name, Goldens(folder)):
            said = []
            try:
                run(lambda _, facts, said=said: said.append(facts))
            except (Broken, Untestable) as error:
                case = golden.partition("/")[2]
                lost = {"status": "failed", "reason": str(error)}
                said = said or [{"golden": golden, "mechanism": name, "case": case, **lost}]
            found.append(Proof(**said[0] | {"status": ProofStatus(said[0]["status"])}))
    found += [] if names else unregistered(GoldenFolder(folder))
    return sorted(found, key=lambda proof: (proof.golden, is_published(proof.mechanism)))


@pytest.fixture(scope="module")
def proofs():
    return proofs_in(PUBLIC)


@pytest.fixture(scope="module")
def public(proofs):
    """Proofs of ours, one per golden."""
    return [proof for proof in proofs if is_own(proof)]


def is_own(proof):
    return not is_published(proof.mechanism) and not str(proof.mechanism).endswith("_ort")


@pytest.fixture(scope="module")
def published(proofs):
    """Proofs of the authors' operators."""
    return [proof for proof in proofs if is_published(proof.mechanism)]


@pytest.fixture
def small(tmp_path):
    for name in SMALL:
        copy_case(tmp_path / "golden", name)
    return tmp_path / "golden"


# The public goldens.


def test_every_golden_passes_but_for_two_other_forms(public):
    assert {p.golden: p.reason for p in public if p.status is ProofStatus.FAILED} == {}
    assert {p.golden for p in public if p.status is ProofStatus.NOT_COVERED} == ANOTHER_FORM
    assert len(public) == 252


def test_every_golden_that_the_authors_operators_can_do_passes(published):
    assert {p.golden: p.reason for p in published if p.status is ProofStatus.FAILED} == {}
    assert sum(p.status is ProofStatus.PASSED for p in published) == 98
    for proof in published:
        if proof.status is ProofStatus.NOT_COVERED:
            words = ("has no causal form", "takes no mask")
            assert proof.reason in {f"{proof.mechanism} {said}" for said in words}


def test_a_row_of_a_runtime_passes_its_goldens_and_says_what_it_was_not_asked_for(proofs):
    pytest.importorskip("onnxruntime")
    own = [p for p in proofs if str(p.mechanism).endswith("_ort")]
    assert len(own) == 18
    assert {(p.status, p.dtype, p.reason) for p in own} == {
        (ProofStatus.PASSED, "float32", "not claimed, and not asked for: float64, gradients")
    }


def test_rows_left_out_for_official_nans_are_told(public):
    told = {p.golden for p in public if "not finite officially" in (p.reason or "")}
    assert told == {
        "nala/adv_zero_query_row",
        "nala_cosine/adv_all_keys_zero_alpha20",
        "nala_cosine/adv_zero_key_row_alpha20",
        "nala_cosine/adv_zero_query_row_alpha20",
    }


# Which cases are taken.


def test_a_case_is_about_ours_and_about_the_published_operator(small):
    proofs = proofs_in(small)
    assert [(p.golden, p.mechanism) for p in proofs] == [
        ("linear_elu/full_b2h2n49d16", "linear"),
        ("linear_elu/full_b2h2n49d16", "linear_published"),
        ("performer/softmax_b2h2n49d16m24", "performer"),
        ("performer/softmax_b2h2n49d16m24", "performer_published"),
        ("softmax/causal_b2h2n49d16", "softmax"),
    ]
    assert {p.status for p in proofs} == {ProofStatus.PASSED}


def test_a_wheel_without_golden_files_says_where_they_are(monkeypatch, tmp_path):
    monkeypatch.setattr("attentions.testing.authors.cases.PACKAGED", tmp_path / "none")
    ((name, run),) = golden_runs("linear", Goldens())
    assert name == "absent"
    with pytest.raises(Untestable, match="they are in the repository, in attentions/testing"):
        run(lambda *_: None)
    with pytest.raises(ValueError, match="is not a folder"):
        _ = Goldens(tmp_path / "none").cases


# Damage.


def failures(folder, *names):
    proofs = [p for p in proofs_in(folder, *names) if not is_published(p.mechanism)]
    return {p.golden: (p.mechanism, p.reason) for p in proofs if p.status is ProofStatus.FAILED}


def flip_bit_of_output(path, byte, mask):
    data = bytearray(path.read_bytes())
    header_len = int.from_bytes(data[:8], "little")
    start, _ = json.loads(data[8 : 8 + header_len])["out"]["data_offsets"]
    data[8 + header_len + start + byte] ^= mask
    path.write_bytes(data)


def test_a_changed_output_of_another_set_fails_by_its_numbers(tmp_path):
    copy_case(tmp_path, "linear_elu/full_b2h2n49d16", "linear_elu/unpublished")
    flip_bit_of_output(tmp_path / "linear_elu/unpublished.safetensors", byte=6, mask=0x10)
    mechanism, reason = failures(tmp_path)["linear_elu/unpublished"]
    assert mechanism == "linear"
    assert "out in float64 is off by" in (reason or "")
