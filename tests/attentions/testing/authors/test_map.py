"""The map from official names to ours, on forms and sizes that no public golden has.

Most goldens here are written by our own mechanism, built directly, see `made`.
"""

from dataclasses import replace

import pytest
import torch

from attentions import Geometry, attention_names, build_attention
from attentions.testing.authors.files import GoldenFolder
from attentions.testing.authors.map import FORMS, form_of, mechanisms_of
from attentions.testing.authors.proof import ProofStatus, prove
from tests.attentions.testing.authors.copies import PUBLIC
from tests.attentions.testing.authors.made import assert_proven, golden_of, qkv, seeded


def test_every_mechanism_of_the_map_is_registered():
    assert {m for folder in FORMS for m in mechanisms_of(folder)} <= set(attention_names())


@pytest.mark.parametrize("switch", [None, 0, 1])
def test_causality_is_a_stored_switch_or_else_a_tag(switch):
    causal = switch != 0
    geometry = Geometry(num_heads=1, head_dim=4, seq_len=6, causal=causal)
    weights = {} if switch is None else {"causal": torch.tensor(switch)}
    softmax = build_attention("softmax", geometry)
    golden = golden_of("softmax", softmax, qkv(2, 1, 6, 6, 4, 4), weights, {}, tags=("causal",))
    assert_proven(golden, "softmax")


@pytest.mark.parametrize(
    ("name", "stated", "scale"),
    [
        ("deltanet", "D**-0.5", None),
        ("kda", 1.0, 1.0),
        ("retnet", "D**-0.5", None),
        ("retnet", 3, 3),
    ],
)
def test_a_scale_in_numbers_is_taken_and_one_in_words_is_the_usual_one(name, stated, scale):
    geometry = Geometry(num_heads=2, head_dim=4, value_dim=3, seq_len=9, causal=True)
    settings = {} if name == "retnet" else {"normalise_keys": False}
    core = build_attention(name, geometry, scale=scale, **settings)
    inputs = qkv(1, 2, 9, 9, 4, 3)
    if name != "retnet":
        inputs["beta"] = seeded(1, 2, 9, seed=6).sigmoid()
    if name == "kda":
        inputs["log_decay"] = -seeded(1, 2, 9, 4, seed=7).square()
    golden = golden_of(name, core, inputs, {}, {"scale": stated}, tags=("causal",))
    assert_proven(golden, name)


@pytest.mark.parametrize(
    ("mechanism", "weights", "said"),
    [
        ("softmax", {"temperature": torch.ones(1)}, "temperature has no place"),
        ("flatten", {}, "no value for flatten's scale"),
        ("flatten", {"scale_raw": torch.zeros(1, 1, 8)}, "(1, 1, 8), ours is scale (4,)"),
    ],
)
def test_weights_that_do_not_meet_ours_fail_by_name(mechanism, weights, said):
    core = build_attention(mechanism, Geometry(num_heads=1, head_dim=4, seq_len=5))
    golden = golden_of(mechanism, core, qkv(1, 1, 5, 5, 4, 4), weights, {})
    proof = prove(golden, form_of(golden.header))
    assert proof.status is ProofStatus.FAILED
    assert said in (proof.reason or "")


@pytest.mark.parametrize(
    "name",
    [
        "differential/layer3_h3n37",
        "differential/no_norm",
        "dsa/top2",
        "fox/window_9",
        "gated_deltaproduct/four_strong_decay",
        "gated_deltaproduct/one_is_gated_deltanet",
        "gated_deltaproduct/two_without_decay",
        "mesanet/cg5_n32",
        "mesanet/exact_strong_decay",
        "moba/top1_is_local",
        "nsa/large_norms",
        "rala/no_rope_h2",
        "softmax_sinks/gqa_window_8",
        "softmax_sinks/large_norms_large_sinks",
    ],
)
def test_a_golden_that_states_nothing_by_our_names_is_read_by_the_official_ones(name):
    folder = GoldenFolder(PUBLIC)
    golden = folder.read(folder.header(name))
    bare = replace(golden, header=replace(golden.header, settings={}))
    assert_proven(bare, golden.header.mechanism)
