"""Which form stands beside which."""

from __future__ import annotations

from dataclasses import replace

import pytest

import attentions
from bench.app.errors import ConfigError
from bench.config import AttentionEntry
from bench.mechanisms.forms import NO_OTHER_FORM, SWITCH, pairs_of


def entry(mechanism: str) -> AttentionEntry:
    return AttentionEntry(label=f"my_{mechanism}", mechanism=mechanism, hyperparameters={})


def test_an_entry_is_set_beside_published_operators() -> None:
    (pair,) = pairs_of([entry("nala")], causal=False)
    assert (pair.ours.label, pair.other.label) == ("my_nala", "my_nala official")
    assert pair.ours.hyperparameters[SWITCH] == "auto"
    assert pair.other.hyperparameters == pair.ours.hyperparameters | {SWITCH: "official"}
    assert (pair.against, pair.scope) == ("official", "core")


def test_causal_an_entry_is_set_beside_its_plain_form() -> None:
    (pair,) = pairs_of([entry("nala"), entry("linear")], causal=True)
    assert pair.ours.mechanism == "linear", "nala has no causal form"
    assert (pair.against, pair.other.hyperparameters[SWITCH]) == ("plain", "plain")


def test_a_mechanism_that_owns_its_projections_is_compared_as_a_layer() -> None:
    (pair,) = pairs_of([entry("mlla")], causal=False)
    assert pair.scope == "layer"


def test_a_layer_with_a_core_is_followed_by_it_set_as_the_layer_is() -> None:
    given = replace(entry("flatten_layer"), hyperparameters={"kernel_size": 3})
    layer, core = pairs_of([given], causal=False)
    assert (layer.scope, layer.plugins) == ("layer", ())
    assert (core.scope, core.plugins) == ("core", ("bench.mechanisms.flatten_core",))
    assert core.ours.label == "my_flatten_layer core"
    assert core.other.label == "my_flatten_layer core official"
    assert core.ours.hyperparameters["kernel_size"] == 3
    assert core.other.hyperparameters == core.ours.hyperparameters | {SWITCH: "official"}
    assert set(core.ours.hyperparameters) == set(attentions.hyperparameters(core.ours.mechanism))


def test_a_layer_that_shrinks_its_keys_has_no_core_of_as_many_keys() -> None:
    given = replace(entry("flatten_layer"), hyperparameters={"sr_ratio": 2})
    assert [pair.scope for pair in pairs_of([given], causal=False)] == ["layer"]


def test_an_entry_with_one_form_is_refused_with_the_reason() -> None:
    with pytest.raises(ConfigError, match=r"my_dpfp: dpfp has one form only: the authors'"):
        list(pairs_of([entry("dpfp")], causal=False))
    with pytest.raises(ConfigError, match=r"none has one form only\. Name entries"):
        list(pairs_of([entry("none")], causal=False))


def test_what_is_said_to_have_one_form_exists_and_has_one() -> None:
    for names in NO_OTHER_FORM:
        for name in names.split(", "):
            assert SWITCH not in attentions.hyperparameters(name), name
