"""Which form stands beside which."""

from __future__ import annotations

import pytest

import attentions
from bench.config import AttentionEntry
from bench.errors import ConfigError
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


def test_an_entry_with_one_form_is_refused_with_the_reason() -> None:
    with pytest.raises(ConfigError, match=r"my_dpfp: dpfp has one form only: the authors'"):
        list(pairs_of([entry("dpfp")], causal=False))
    with pytest.raises(ConfigError, match=r"none has one form only\. Name entries"):
        list(pairs_of([entry("none")], causal=False))


def test_what_is_said_to_have_one_form_exists_and_has_one() -> None:
    for names in NO_OTHER_FORM:
        for name in names.split(", "):
            assert SWITCH not in attentions.hyperparameters(name), name
