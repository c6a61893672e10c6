"""FLOP formulas of every mechanism at one shape of a few tokens; slow tests look at more."""

import functools

import pytest

from attentions import attention_class
from attentions.testing import flops as proof
from attentions.testing.flops import FlopVerdict, forms_of, prove_form
from attentions.testing.slow_forms import token_by_token, without_zeros
from tests.attentions.small import NAMES

SPARSE = {
    "dsa": {"top_k": 5},
    "moba": {"block_size": 4, "top_k": 2},
    "nsa": {"block_size": 2, "num_blocks": 3, "window": 5},
    "sliding_window": {"window": 4},
    "fox": {"window": 5},
}
"""So few keys that a dozen tokens do not see all."""
CHOOSES = ("block_sparse", "deltaformer", "dsa", "moba", "nsa", "path", "reformer", "topk")
LAYERS = ("gated_deltanet_layer", "gla_layer", "kda_layer", "mamba2_ssd_layer")
"""Chunks or choices of these outweigh so few tokens: what they execute is confirmed alone."""


def glance(kind, form):
    if form == "decode":
        return prove_form(kind, form)
    steps = form == "causal" and kind.capabilities.recurrent
    ways = [without_zeros, token_by_token] if steps else [without_zeros]
    return proof._verdict(kind.name, form, [proof._look(kind, form, proof.SMALL, *ways)])


@pytest.mark.parametrize("name", [name for name in NAMES if name != "softmax_flex"])
def test_every_formula_holds_for_a_few_tokens(name):
    kind = attention_class(name)
    for form in forms_of(kind):
        found = glance(kind, form)
        if found.status is not FlopVerdict.CONFIRMED:
            assert found.status is FlopVerdict.UNCONFIRMED and name in (*CHOOSES, *LAYERS), found


@pytest.mark.parametrize("name", SPARSE)
def test_formulas_hold_where_a_few_tokens_do_not_see_all(name):
    given = functools.partialmethod(attention_class(name).__init__, **SPARSE[name])
    kind = type("Few", (attention_class(name),), {"__init__": given})
    for form in forms_of(kind):
        found = glance(kind, form)
        assert found.status is not FlopVerdict.FAILED, found.reason
