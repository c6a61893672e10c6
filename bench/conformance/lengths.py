"""How many tokens and keys it takes, and which forms it has at all."""

from __future__ import annotations

from typing import Any

import torch

from attentions import Geometry, build_attention
from bench.conformance.check import Check, always, require, require_close, require_refusal
from bench.conformance.forms import (
    HEAD_DIM,
    NUM_HEADS,
    SEQ_LEN,
    Form,
    build,
    forms_of,
    inputs,
)

FEWER = 5


def keys_may_be_more_or_fewer_than_queries(form: Form) -> None:
    """Against the slow form, in float64."""
    mechanism = build(form, dtype=torch.float64)
    for key_len in (1, FEWER, 40):
        tensors = inputs(mechanism, dtype=torch.float64, key_len=key_len)
        out, expected = mechanism(*tensors), mechanism.reference(*tensors)
        require(out.shape[-2] == SEQ_LEN, f"{key_len} keys give {out.shape[-2]} outputs")
        if expected is not None:
            require_close(out, expected, f"{key_len} keys")


def a_mechanism_without_cross_attention_refuses_other_lengths(form: Form) -> None:
    """Such as one whose queries are its keys."""
    _refuses_fewer_keys(build(form))


def a_causal_form_refuses_more_keys_than_queries(form: Form) -> None:
    """Two alignments are in use, so there is no right answer."""
    _refuses_fewer_keys(build(form))


def _refuses_fewer_keys(mechanism: Any) -> None:
    tensors = inputs(mechanism, key_len=FEWER)
    words = f"{mechanism.name}: {SEQ_LEN} queries and {FEWER} keys"
    require_refusal(lambda: mechanism(*tensors), ValueError, words)


def a_mechanism_on_a_grid_refuses_another_number_of_tokens(form: Form) -> None:
    """The message says the grid and what it holds."""
    mechanism = build(form)
    tensors = inputs(build(form, seq_len=SEQ_LEN + 1))
    for words in (f"{form.name}: {SEQ_LEN + 1} tokens ", f" 3x4 needs {SEQ_LEN}"):
        require_refusal(lambda: mechanism(*tensors), ValueError, words)


def a_form_that_is_not_claimed_cannot_be_built(form: Form) -> None:
    """Neither causal nor bidirectional."""
    claimed = {other.causal for other in forms_of(form.name)}
    for causal in {False, True} - claimed:
        geometry = Geometry(num_heads=NUM_HEADS, head_dim=HEAD_DIM, seq_len=SEQ_LEN, causal=causal)
        require_refusal(
            lambda geometry=geometry: build_attention(form.name, geometry),  # type: ignore[misc]
            ValueError,
            f"{form.name} ",
        )


def forward_takes_the_claimed_masks_and_gates_and_no_others(form: Form) -> None:
    """By keyword."""
    words = {"padding": "key_mask", "dense": "mask"}
    claimed = {words[mask] for mask in form.can.masks} | set(form.can.gates)
    taken = form.keywords
    require(taken == claimed, f"forward takes {sorted(taken)}, claimed are {sorted(claimed)}")


CHECKS = (
    Check(
        claim="cross",
        run=keys_may_be_more_or_fewer_than_queries,
        applies=lambda form: form.is_core and form.can.cross,
        per_form=False,
    ),
    Check(
        claim="cross",
        run=a_mechanism_without_cross_attention_refuses_other_lengths,
        applies=lambda form: form.is_core and not form.can.cross,
        per_form=False,
        earns=False,
    ),
    Check(
        claim="causal",
        run=a_causal_form_refuses_more_keys_than_queries,
        applies=lambda form: form.is_core and form.causal,
    ),
    Check(
        claim="shape",
        run=a_mechanism_on_a_grid_refuses_another_number_of_tokens,
        applies=lambda form: form.can.needs_grid,
        per_form=False,
    ),
    Check(
        claim="forms",
        run=a_form_that_is_not_claimed_cannot_be_built,
        applies=always,
        per_form=False,
    ),
    Check(
        claim="forms",
        run=forward_takes_the_claimed_masks_and_gates_and_no_others,
        applies=always,
        per_form=False,
    ),
)
