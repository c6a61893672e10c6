"""Masks: what is hidden is as good as removed, and a query that sees nothing gets zeros."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from bench.conformance.check import Check, require, require_close, require_refusal
from bench.conformance.forms import (
    BATCH_SIZE,
    LONG,
    NUM_HEADS,
    SEQ_LEN,
    VALUE_DIM,
    Form,
    build,
    forms_of,
    gradients,
    inputs,
)


def _padding(form: Form) -> bool:
    return form.is_core and "padding" in form.can.masks


def _dense(form: Form) -> bool:
    return form.is_core and "dense" in form.can.masks


def _without(x: Tensor, kept: Tensor) -> Tensor:
    return x.index_select(2, kept.nonzero()[:, 0])


def hidden_keys_are_as_good_as_removed(form: Form) -> None:
    """What is hidden may be anything."""
    mechanism = build(form, seq_len=LONG)
    q, k, v = inputs(mechanism)
    key_mask = torch.rand(BATCH_SIZE, LONG) < 0.7
    hidden = ~key_mask[:, None, :, None]
    out = mechanism(q, k.masked_fill(hidden, 60.0), v.masked_fill(hidden, 1e4), key_mask=key_mask)
    for row, kept in enumerate(key_mask):
        fewer_k, fewer_v = (_without(x[row : row + 1], kept) for x in (k, v))
        fewer_q, seen = q[row : row + 1], out[row : row + 1]
        if form.causal:  # as many queries as keys: the hidden tokens' queries go too
            fewer_q, seen = _without(fewer_q, kept), _without(seen, kept)
        expected = mechanism(fewer_q, fewer_k, fewer_v)
        scale = max(1.0, expected.abs().max().item())  # an output that is a sum has a large one
        require_close(seen, expected, "hidden keys", rtol=1e-4, atol=1e-5 * scale)


def a_query_whose_keys_are_all_hidden_gets_zeros_and_finite_gradients(form: Form) -> None:
    """Zeros, because nothing was seen; and nothing may come back as NaN."""
    mechanism = build(form)
    tensors = inputs(mechanism, requires_grad=True)
    key_mask = torch.ones(BATCH_SIZE, SEQ_LEN, dtype=torch.bool)
    key_mask[0] = False
    out = mechanism(*tensors, key_mask=key_mask)
    require(out[0].eq(0).all(), "a row whose keys are all hidden is not zero")
    require(out[1].ne(0).any(), "a row whose keys are kept is zero")
    _require_finite(gradients(out, tensors))


def a_dense_mask_hides_pairs_one_by_one(form: Form) -> None:
    """Together with a key mask, and causality if the form has it."""
    mechanism, free = build(form), build(forms_of(form.name)[0])
    free.load_state_dict(mechanism.state_dict())
    q, k, v = inputs(mechanism)
    mask = torch.rand(BATCH_SIZE, 1, SEQ_LEN, SEQ_LEN) < 0.5
    key_mask = torch.rand(BATCH_SIZE, SEQ_LEN) < 0.8
    mask[0, 0, 3] = False
    out = mechanism(q, k, v, mask=mask, key_mask=key_mask)
    visible = mask[:, 0] & key_mask[:, None]
    if form.causal:
        visible = visible.tril()
    for row, i in itertools.product(range(BATCH_SIZE), range(SEQ_LEN)):
        kept = visible[row, i]
        expected = torch.zeros(1, NUM_HEADS, 1, VALUE_DIM)
        if kept.any():
            fewer = (_without(x[row : row + 1], kept) for x in (k, v))
            expected = free(q[row : row + 1, :, i : i + 1], *fewer)
        require_close(out[row : row + 1, :, i : i + 1], expected, f"query {i} of row {row}")


def a_row_that_a_dense_mask_blanks_has_finite_gradients(form: Form) -> None:
    """And is zero."""
    mechanism = build(form)
    tensors = inputs(mechanism, requires_grad=True)
    mask = torch.ones(SEQ_LEN, SEQ_LEN, dtype=torch.bool)
    mask[5] = False
    out = mechanism(*tensors, mask=mask)
    require(out[:, :, 5].eq(0).all(), "a query that sees nothing is not zero")
    _require_finite(gradients(out, tensors))


def a_key_mask_of_another_shape_or_dtype_is_refused(form: Form) -> None:
    """Numbers are no mask: it could be meant as an addend."""
    mechanism = build(form)
    tensors = inputs(mechanism)
    wrong = (
        torch.ones(BATCH_SIZE, SEQ_LEN),
        torch.ones(BATCH_SIZE, SEQ_LEN + 1, dtype=torch.bool),
    )
    for mask in wrong:
        require_refusal(
            lambda mask=mask: mechanism(*tensors, key_mask=mask),  # type: ignore[misc]
            ValueError,
            "key_mask is",
        )


def a_dense_mask_of_another_shape_or_dtype_is_refused(form: Form) -> None:
    """As for keys."""
    mechanism = build(form)
    tensors = inputs(mechanism)
    for wrong in (torch.ones(SEQ_LEN, SEQ_LEN), torch.ones(SEQ_LEN, 5, dtype=torch.bool)):
        require_refusal(
            lambda wrong=wrong: mechanism(*tensors, mask=wrong),  # type: ignore[misc]
            ValueError,
            "mask is",
        )


def _require_finite(found: list[Tensor]) -> None:
    for gradient in found:
        require(gradient.isfinite().all(), "a gradient is not finite")


CHECKS = (
    Check(claim="padding", run=hidden_keys_are_as_good_as_removed, applies=_padding),
    Check(
        claim="padding",
        run=a_query_whose_keys_are_all_hidden_gets_zeros_and_finite_gradients,
        applies=_padding,
    ),
    Check(
        claim="padding",
        run=a_key_mask_of_another_shape_or_dtype_is_refused,
        applies=_padding,
        per_form=False,
    ),
    Check(claim="dense", run=a_dense_mask_hides_pairs_one_by_one, applies=_dense),
    Check(claim="dense", run=a_row_that_a_dense_mask_blanks_has_finite_gradients, applies=_dense),
    Check(
        claim="dense",
        run=a_dense_mask_of_another_shape_or_dtype_is_refused,
        applies=_dense,
        per_form=False,
    ),
)
