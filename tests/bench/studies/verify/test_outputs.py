import json
import shutil
from collections import Counter
from pathlib import Path

import pytest
from rich.console import Console

from bench.measuring.machine.environment import mechanism_syntax
from bench.measuring.plugins import import_plugins
from bench.studies.golden.build import is_published
from bench.studies.golden.proof import ProofStatus
from bench.studies.verify.outputs import exit_code, listed_gaps, run, unlisted, verify
from bench.studies.verify.settings import Verify
from tests.bench.studies.verify.conftest import is_own
from tests.bench.studies.verify.goldens import PUBLIC, config, copy_case, session

PROVEN = {
    "softmax": 12,
    "linear": 12,
    "performer": 13,
    "flatten": 10,
    "flatten_layer": 5,
    "nala": 12,
    "nala_layer": 3,
    "nala_vanilla": 1,
    "nala_cosine": 12,
    "efficient": 4,
    "efficient_layer": 1,
    "cosformer": 8,
    "polaformer": 9,
    "polaformer_layer": 3,
    "polaformer_pp": 1,
    "hedgehog": 1,
    "taylor": 1,
    "inline": 2,
    "inline_layer": 1,
    "mlla": 1,
    "linear_unnormalised": 1,
    "agent_layer": 1,
    "linformer_layer": 2,
    "nystromformer": 2,
}
PUBLISHED = {
    "agent_published": 1,
    "cosformer_published": 7,
    "efficient_published": 5,
    "flatten_layer_published": 5,
    "flatten_published": 10,
    "inline_published": 3,
    "linear_published": 9,
    "linformer_published": 2,
    "mlla_published": 1,
    "nala_cosine_published": 12,
    "nala_published": 15,
    "nystromformer_published": 2,
    "performer_published": 13,
    "polaformer_pp_published": 1,
    "polaformer_published": 12,
}
"""Files about the core, and about our layer, in which it takes the place of our core."""
ANOTHER_FORM = {
    "performer/softmax_causal_b1h2n60d32m40",
    "performer/softmax_causal_b2h2n49d16m24",
}


# The public goldens.


def test_every_golden_of_a_mechanism_passes(public):
    assert {p.golden: p.reason for p in public if p.status is ProofStatus.FAILED} == {}
    passed = Counter(p.mechanism for p in public if p.status is ProofStatus.PASSED)
    assert passed.items() >= PROVEN.items()


def test_only_other_forms_of_proven_mechanisms_are_not_covered(public):
    folders = {p.golden.partition("/")[0] for p in public if p.status is ProofStatus.PASSED}
    left = {
        p.golden
        for p in public
        if p.status is ProofStatus.NOT_COVERED and p.golden.partition("/")[0] in folders
    }
    assert left == ANOTHER_FORM
    assert len(public) == 252


def test_every_golden_that_the_authors_operators_can_do_passes(published):
    assert {p.golden: p.reason for p in published if p.status is ProofStatus.FAILED} == {}
    passed = Counter(p.mechanism for p in published if p.status is ProofStatus.PASSED)
    assert passed.items() >= PUBLISHED.items()
    for proof in published:
        if proof.status is ProofStatus.NOT_COVERED and proof.mechanism in PUBLISHED:
            words = ("has no causal form", "takes no mask")
            assert proof.reason in {f"{proof.mechanism} {said}" for said in words}


def test_a_row_of_a_runtime_passes_its_goldens_and_says_what_it_was_not_asked_for(proofs):
    pytest.importorskip("onnxruntime")
    own = [p for p in proofs if str(p.mechanism).endswith("_ort")]
    assert len(own) == 18
    assert {(p.status, p.dtype, p.reason) for p in own} == {
        (ProofStatus.PASSED, "float32", "not claimed, and not asked for: float64, gradients")
    }


def test_what_is_not_covered_says_why(public):
    assert all(p.reason for p in public if p.status is ProofStatus.NOT_COVERED)
    why = {p.golden: p.reason or "" for p in public}
    assert "leaks the future" in why["performer/softmax_causal_b1h2n60d32m40"]


def test_rows_left_out_for_official_nans_are_told(public):
    told = {p.golden for p in public if "not finite officially" in (p.reason or "")}
    assert told == {
        "nala/adv_zero_query_row",
        "nala_cosine/adv_all_keys_zero_alpha20",
        "nala_cosine/adv_zero_key_row_alpha20",
        "nala_cosine/adv_zero_query_row_alpha20",
    }


def test_case_names_say_nothing(public, tmp_path):
    some = {p.mechanism: p for p in public if p.status is ProofStatus.PASSED}.values()
    some = sorted([*some, *(p for p in public if p.golden in ANOTHER_FORM)], key=public.index)
    for number, proof in enumerate(some):
        folder = proof.golden.partition("/")[0]
        copy_case(tmp_path, proof.golden, f"{folder}/case{number:03}")
    renamed = [p for p in verify(config(tmp_path)) if is_own(p)]
    outcome, expected = ([(p.mechanism, p.status, p.error) for p in ps] for ps in (renamed, some))
    assert outcome == expected


# Which cases are taken.


def test_a_folder_of_some_goldens_is_proven(small):
    proofs = list(verify(config(small)))
    assert [(p.golden, p.mechanism) for p in proofs] == [
        ("linear_elu/full_b2h2n49d16", "linear"),
        ("linear_elu/full_b2h2n49d16", "linear_published"),
        ("performer/softmax_b2h2n49d16m24", "performer"),
        ("performer/softmax_b2h2n49d16m24", "performer_published"),
        ("softmax/causal_b2h2n49d16", "softmax"),
    ]
    assert {p.status for p in proofs} == {ProofStatus.PASSED}


def test_attention_narrows_by_our_names(small):
    assert [p.mechanism for p in verify(config(small, "linear", "softmax"))] == [
        "linear",
        "softmax",
    ]


def test_the_authors_operators_are_proven_alone_when_named(small):
    assert [p.mechanism for p in verify(config(small, "linear_published"))] == ["linear_published"]


def test_forms_of_one_folder_are_told_apart_when_narrowing():
    layers = list(verify(config(PUBLIC, "nala_layer")))
    assert len(layers) == 3
    assert all(p.golden.startswith("nala/module_") for p in layers)


def test_a_plugins_mechanism_is_proven_by_a_folder_of_its_name(small, tmp_path, monkeypatch):
    (tmp_path / "my_plugin_for_verify.py").write_text(
        "from attentions import Capabilities, register_attention\n"
        "from attentions.mechanisms.linear import Linear\n\n\n"
        '@register_attention("my_linear", title="t", source="s", capabilities=Capabilities())\n'
        "class MyLinear(Linear):\n    pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("attentions.registry._REGISTRY", dict(_registry()))
    said = json.loads((small / "linear_elu/full_b2h2n49d16.json").read_text())
    (small / "my_linear").mkdir()
    said["mechanism"] = "my_linear"
    (small / "my_linear/full_b2h2n49d16.json").write_text(json.dumps(said))
    shutil.copy(small / "linear_elu/full_b2h2n49d16.safetensors", small / "my_linear")
    asked = Verify(
        golden=small,
        attention=("my_linear",),
        out=Path("unused.json"),
        plugins=("my_plugin_for_verify",),
    )
    import_plugins(asked.plugins)
    assert [(p.golden, p.status) for p in verify(asked)] == [
        ("my_linear/full_b2h2n49d16", ProofStatus.PASSED)
    ]


def _registry():
    from attentions import registry

    registry.attention_names()
    return registry._REGISTRY


# Damage.


def failures(folder, *attention):
    proofs = [p for p in verify(config(folder, *attention)) if not is_published(p.mechanism)]
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


def test_a_damaged_header_fails_under_the_only_mechanism_it_can_be_about(small):
    (small / "linear_elu/full_b2h2n49d16.json").write_text("{")
    assert failures(small)["linear_elu/full_b2h2n49d16"][0] == "linear"
    (small / "softmax/causal_b2h2n49d16.safetensors").unlink()
    assert failures(small, "softmax") == {
        "softmax/causal_b2h2n49d16": (
            "softmax",
            "softmax/causal_b2h2n49d16.safetensors is missing",
        )
    }


def test_damage_is_found_in_goldens_of_mechanisms_that_are_not_registered(tmp_path):
    copy_case(tmp_path, "hedgehog/feature_map")
    path = (tmp_path / "hedgehog").rename(tmp_path / "unheard_of") / "feature_map.safetensors"
    header = path.with_suffix(".json")
    header.write_text(header.read_text().replace('"hedgehog"', '"unheard_of"'))
    path.write_bytes(path.read_bytes()[:-1])
    mechanism, reason = failures(tmp_path)["unheard_of/feature_map"]
    assert mechanism is None and "cannot be parsed" in (reason or "")
    header.write_text("{")
    mechanism, reason = failures(tmp_path)["unheard_of/feature_map"]
    assert mechanism is None and "not a golden's header" in (reason or "")


# How it ends.


def test_exit_codes_tell_a_proof_from_a_failed_one(small, tmp_path, request):
    out = tmp_path / "out" / "verify.json"
    quiet = Console(quiet=True)
    assert run(config(small, out=out), session(quiet)) == 0
    for row in json.loads(out.read_text()):
        assert row["source"] == mechanism_syntax(row["mechanism"])
    request.getfixturevalue("wrong_linear")
    assert run(config(small, out=out), session(quiet)) == 1
    failed = {row["mechanism"] for row in json.loads(out.read_text()) if row["status"] == "failed"}
    assert failed == {"linear"}


def test_strict_fails_a_case_that_is_not_covered_and_not_listed(proofs, small):
    listed = listed_gaps(PUBLIC)
    gaps = {f"{p.golden} {p.mechanism}" for p in proofs if p.status is ProofStatus.NOT_COVERED}
    assert unlisted(proofs, listed) == [] and listed.keys() == gaps
    copy_case(small, name := "performer/softmax_causal_b2h2n49d16m24")
    usual = config(small, "performer", out=small.parent / "verify.json")
    asked, console = usual.model_copy(update={"strict": True}), Console(record=True, width=400)
    assert run(usual, session()) == 0 and run(asked, session(console)) == 1
    said = console.export_text()
    assert f"NOT COVERED {name} performer: the reference leaks the future" in said
    (small / "not_covered.yaml").write_text(f"{name} performer: another reason\n")
    assert run(asked, session()) == 1
    (small / "not_covered.yaml").write_text((PUBLIC / "not_covered.yaml").read_text())
    assert run(asked, session()) == 0


def test_nothing_to_prove_is_no_failure_and_is_said(small, tmp_path):
    assert exit_code([]) == 0
    console = Console(record=True, width=400)
    asked = config(small, "linear", "none", "nala", out=tmp_path / "verify.json")
    assert run(asked, session(console)) == 0
    assert "No golden file is about: nala, none\n" in console.export_text()
