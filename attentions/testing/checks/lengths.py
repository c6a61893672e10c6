"""Numbers of tokens and keys that a mechanism takes, and forms that it has."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

from ...capabilities import DTYPES
from ...geometry import Geometry
from ...registry import build_attention
from ..check import check, require, require_refusal
from ..forms import (
    HEAD_DIM,
    LONG,
    NUM_HEADS,
    SEQ_LEN,
    Form,
    build,
    forms_of,
    gradients,
    has_gradients,
    inputs,
)
from ..tolerances import require_near, require_near_gradients

FEWER = 5


@check(
    "cross",
    lambda form: form.is_core and form.can.cross,
    cases=((SEQ_LEN, 1), (SEQ_LEN, FEWER), (SEQ_LEN, 40), (1, 40), (SEQ_LEN, LONG)),
    per_form=False,
)
def keys_may_be_more_or_fewer_than_queries(form: Form, seq_len: int, key_len: int) -> None:
    """Output and gradients against the slow form, in float64; the output in float32 as well.

    Float32 is left out for one key: where weights can cancel, that of a single key may be tiny.
    """
    mechanism = build(form, seq_len=seq_len, dtype=torch.float64)
    trains = has_gradients(mechanism)
    tensors = inputs(mechanism, dtype=torch.float64, key_len=key_len, requires_grad=trains)
    out, expected = mechanism(*tensors), mechanism.reference(*tensors)
    require(out.shape[-2] == seq_len, f"{key_len} keys give {out.shape[-2]} outputs")
    if expected is None and form.can.exact:
        q, k, v = tensors
        expected = functional.scaled_dot_product_attention(q, k, v)
    if expected is not None:
        words = f"the output of {key_len} keys"
        require_near(out, expected, words)
        if trains:
            require_near_gradients(gradients(out, tensors), gradients(expected, tensors), words)
    if key_len > 1 and "float32" in form.can.dtypes:
        narrow = mechanism.float()(*(x.detach().float() for x in tensors))
        require_near(narrow, out, f"the output of {key_len} keys")


@check("cross", lambda form: form.is_core and not form.can.cross, per_form=False, earns=False)
def a_mechanism_without_cross_attention_refuses_other_lengths(form: Form) -> None:
    """Such as one whose queries are its keys."""
    _refuses_fewer_keys(build(form))


@check("causal", lambda form: form.is_core and form.causal)
def a_causal_form_refuses_more_keys_than_queries(form: Form) -> None:
    """Two alignments are in use, so there is no right answer."""
    _refuses_fewer_keys(build(form))


def _refuses_fewer_keys(mechanism: Any) -> None:
    tensors = inputs(mechanism, key_len=FEWER)
    words = f"{mechanism.name}: {SEQ_LEN} queries and {FEWER} keys"
    require_refusal(lambda: mechanism(*tensors), ValueError, words)


@check("shape", lambda form: form.can.needs_grid, per_form=False)
def a_mechanism_on_a_grid_refuses_another_number_of_tokens(form: Form) -> None:
    """The message says the grid and what it holds."""
    mechanism = build(form)
    tensors = inputs(build(form, seq_len=SEQ_LEN + 1))
    for words in (f"{form.name}: {SEQ_LEN + 1} tokens ", f" 3x4 needs {SEQ_LEN}"):
        require_refusal(lambda: mechanism(*tensors), ValueError, words)


@check("forms", per_form=False)
def a_form_that_is_not_claimed_cannot_be_built(form: Form) -> None:
    """Be it the causal or the bidirectional one."""
    claimed = {other.causal for other in forms_of(form.name)}
    for causal in {False, True} - claimed:
        geometry = Geometry(num_heads=NUM_HEADS, head_dim=HEAD_DIM, seq_len=SEQ_LEN, causal=causal)
        require_refusal(
            lambda geometry=geometry: build_attention(form.name, geometry, **form.settings),  # type: ignore[misc]
            ValueError,
            f"{form.name} ",
        )


@check("forms", per_form=False)
def forward_takes_the_claimed_masks_and_gates_and_no_others(form: Form) -> None:
    """Masks and gates by keyword: exactly the claimed ones are accepted."""
    words = {"padding": "key_mask", "dense": "mask"}
    claimed = {words[mask] for mask in form.can.masks} | set(form.can.gates)
    taken = form.keywords
    require(taken == claimed, f"forward takes {sorted(taken)}, claimed are {sorted(claimed)}")


@check("forms", per_form=False)
def claims_are_of_what_there_is(form: Form) -> None:
    """Values of claims are known words, and claims do not contradict each other."""
    can = form.can
    allowed = {
        "dtypes": set(DTYPES),
        "masks": {"padding", "dense"},
        "exports": {"causal" if other.causal else "bidirectional" for other in forms_of(form.name)},
        "scopes": {"core", "layer"} if form.is_core else {"layer"},
        "backward_devices": set(can.devices),
    }
    for claim, known in allowed.items():
        more = set(getattr(can, claim)) - known
        require(not more, f"{claim} has {sorted(more)}; allowed are {sorted(known)}")
    for claim in ("dtypes", "scopes", "devices"):
        require(bool(getattr(can, claim)), f"{claim} is empty")
    layouts = ("bhnd", "bnhd")
    words = f"memory_layout is {can.memory_layout!r}; allowed are {', '.join(layouts)}"
    require(can.memory_layout in layouts, words)
    require(can.causal or not can.recurrent, "recurrent is claimed and causal is not")
