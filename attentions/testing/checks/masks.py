"""Masks: what is hidden is as good as removed, and a query that sees nothing gets zeros."""

from __future__ import annotations

import itertools
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from ..check import check, require, require_refusal
from ..forms import (
    BATCH_SIZE,
    MEDIUM,
    NUM_HEADS,
    SEQ_LEN,
    VALUE_DIM,
    Form,
    build,
    forms_of,
    gradients,
    inputs,
)
from ..tolerances import require_near

_BY_DTYPE = ((torch.float32,), (torch.float16,), (torch.bfloat16,))


def _padding(form: Form) -> bool:
    return form.is_core and "padding" in form.can.masks


def _dense(form: Form) -> bool:
    return form.is_core and "dense" in form.can.masks


def _without(x: Tensor, kept: Tensor) -> Tensor:
    return x.index_select(2, kept.nonzero()[:, 0])


def key_masks(key_len: int) -> Tensor:
    """Batches padded on the right, on the left, in the middle, and holes anywhere, (4, M)."""
    places = torch.arange(key_len)
    third = key_len // 3
    is_inside = (places >= third) & (places < 2 * third)
    rows = (places < 2 * third, places >= third, ~is_inside, torch.rand(key_len) < 0.7)
    return torch.stack(rows)


def _hidden(x: Tensor, key_mask: Tensor, value: float) -> Tensor:
    return x.masked_fill(~key_mask[:, None, :, None], value)


@check("padding", _padding, cases=_BY_DTYPE)
def hidden_keys_are_as_good_as_removed(form: Form, dtype: torch.dtype) -> None:
    """Wherever they are, and whatever their values are."""
    seq_len = MEDIUM if dtype == torch.float32 else SEQ_LEN
    mechanism = build(form, seq_len=seq_len, dtype=dtype)
    key_mask = key_masks(seq_len)
    q, k, v = inputs(mechanism, dtype=dtype, batch_size=len(key_mask))
    given = key_mask.clone()
    out = mechanism(q, _hidden(k, key_mask, 60.0), _hidden(v, key_mask, 1e4), key_mask=given)
    require(torch.equal(given, key_mask), "the mask is modified")
    for row, kept in enumerate(key_mask):
        fewer_k, fewer_v = (_without(x[row : row + 1], kept) for x in (k, v))
        fewer_q, seen = q[row : row + 1], out[row : row + 1]
        if form.causal or not form.can.cross:  # as many queries as keys: hidden queries go too
            fewer_q, seen = _without(fewer_q, kept), _without(seen, kept)
        require_near(seen, mechanism(fewer_q, fewer_k, fewer_v), "the output with hidden keys")


# Not where queries write to the state: the query that is put in another's place would change it.
@check("padding", lambda form: _padding(form) and form.causal and not form.can.queries_write)
def a_hidden_token_sees_what_was_kept_before_it(form: Form) -> None:
    """Only its key is hidden: its query is answered, or gets zeros if no key before it is kept.

    For comparison it is put in place of the last query that is kept, or after it where a token
    reads the state before it writes.
    """
    mechanism = build(form)
    key_mask = key_masks(SEQ_LEN)
    tensors = inputs(mechanism, batch_size=len(key_mask))
    out = mechanism(*tensors, key_mask=key_mask)
    for row, place in (~key_mask).nonzero().tolist():
        q, k, v = (x[row : row + 1, :, : place + 1] for x in tensors)
        kept = key_mask[row, : place + 1]
        seen = out[row : row + 1, :, place : place + 1]
        if not kept.any():
            require(seen.eq(0).all(), "a token before which all keys are hidden is not zero")
            continue
        queries, keys, values = (_without(x, kept) for x in (q, k, v))
        if getattr(mechanism, "reads_first", False):
            keys, values = (functional.pad(x, (0, 0, 0, 1)) for x in (keys, values))
        else:
            queries = queries[:, :, :-1]
        expected = mechanism(torch.cat((queries, q[:, :, -1:]), dim=2), keys, values)
        require_near(seen, expected[:, :, -1:], "the output of a hidden token")


@check("padding", lambda form: _padding(form) and form.can.cross and not form.causal)
def hidden_keys_may_be_others_than_the_queries(form: Form) -> None:
    """More keys than queries."""
    mechanism = build(form)
    key_mask = key_masks(40)
    q, k, v = inputs(mechanism, batch_size=len(key_mask), key_len=40)
    out = mechanism(q, _hidden(k, key_mask, 60.0), _hidden(v, key_mask, 1e4), key_mask=key_mask)
    for row, kept in enumerate(key_mask):
        fewer = (_without(x[row : row + 1], kept) for x in (k, v))
        expected = mechanism(q[row : row + 1], *fewer)
        require_near(out[row : row + 1], expected, "the output with hidden keys of 40")


@check("padding", _padding)
def hidden_keys_get_no_gradient(form: Form) -> None:
    """Gradients of hidden keys and of their values are exactly zero."""
    mechanism = build(form)
    key_mask = key_masks(SEQ_LEN)
    tensors = inputs(mechanism, batch_size=len(key_mask), requires_grad=True)
    out = mechanism(*tensors, key_mask=key_mask)
    for gradient in gradients(out, tensors[1:]):
        hidden = gradient.transpose(1, 2)[~key_mask]
        require(hidden.eq(0).all(), "a hidden key or its value gets a gradient")
        require(gradient.ne(0).any(), "no key gets a gradient")


@check("padding", _padding, cases=_BY_DTYPE)
def a_query_whose_keys_are_all_hidden_gets_zeros_and_finite_gradients(
    form: Form, dtype: torch.dtype
) -> None:
    """Zeros, because there is nothing to attend to; no gradient may be NaN."""
    mechanism = build(form, dtype=dtype)
    tensors = inputs(mechanism, dtype=dtype, requires_grad=True)
    key_mask = torch.ones(BATCH_SIZE, SEQ_LEN, dtype=torch.bool)
    key_mask[0] = False
    out = mechanism(*tensors, key_mask=key_mask)
    require(out[0].eq(0).all(), "a row whose keys are all hidden is not zero")
    require(out[1].ne(0).any(), "a row whose keys are kept is zero")
    _require_finite(gradients(out, tensors))


@check(
    "dense",
    _dense,
    cases=(
        (SEQ_LEN, SEQ_LEN),
        (BATCH_SIZE, 1, SEQ_LEN, SEQ_LEN),
        (BATCH_SIZE, NUM_HEADS, SEQ_LEN, SEQ_LEN),
        (1, NUM_HEADS, MEDIUM, MEDIUM),
    ),
)
def a_dense_mask_hides_pairs_one_by_one(form: Form, *sizes: int) -> None:
    """Together with a key mask, and causality if the form has it."""
    seq_len = sizes[-1]
    mechanism, free = (build(f, seq_len=seq_len) for f in (form, forms_of(form.name)[0]))
    free.load_state_dict(mechanism.state_dict())
    q, k, v = inputs(mechanism)
    mask, key_mask = torch.rand(sizes) < 0.5, torch.rand(BATCH_SIZE, seq_len) < 0.8
    mask[..., 3, :] = False
    given = mask.clone()
    out = mechanism(q, k, v, mask=given, key_mask=key_mask)
    require(torch.equal(given, mask), "the mask is modified")
    visible = mask.expand(BATCH_SIZE, NUM_HEADS, -1, -1) & key_mask[:, None, None]
    if form.causal:
        visible = visible.tril()
    # In a long sequence, only queries at the borders of chunks.
    queries = range(seq_len) if seq_len == SEQ_LEN else (3, 63, 64, 127, 128, seq_len - 1)
    has_own = sizes[-3:-2] == (NUM_HEADS,)
    heads = [slice(h, h + 1) for h in range(NUM_HEADS)] if has_own else [slice(0, NUM_HEADS)]
    for row, head, i in itertools.product(range(BATCH_SIZE), heads, queries):
        kept = visible[row, head.start, i]
        expected = torch.zeros(1, NUM_HEADS, 1, VALUE_DIM)[:, head]
        if kept.any():
            fewer = (_without(x[row : row + 1], kept) for x in (k, v))
            expected = free(q[row : row + 1, :, i : i + 1], *fewer)[:, head]
        what = f"the output of query {i} in row {row}"
        require_near(out[row : row + 1, head, i : i + 1], expected, what)


@check("dense", _dense, cases=_BY_DTYPE)
def a_row_that_a_dense_mask_blanks_has_finite_gradients(form: Form, dtype: torch.dtype) -> None:
    """Its output is zero; a key that no query sees gets no gradient at all."""
    mechanism = build(form, dtype=dtype)
    tensors = inputs(mechanism, dtype=dtype, requires_grad=True)
    mask = torch.ones(SEQ_LEN, SEQ_LEN, dtype=torch.bool)
    mask[5] = False
    mask[:, 2] = False
    out = mechanism(*tensors, mask=mask)
    require(out[:, :, 5].eq(0).all(), "a query that sees nothing is not zero")
    found = gradients(out, tensors)
    _require_finite(found)
    for gradient in found[1:]:
        require(gradient[:, :, 2].eq(0).all(), "a key that is hidden from all gets a gradient")


@check("dense", _dense, cases=(("mask", SEQ_LEN),), per_form=False)
@check("padding", _padding, cases=(("key_mask", BATCH_SIZE),), per_form=False)
def a_mask_of_another_shape_or_dtype_is_refused(form: Form, argument: str, rows: int) -> None:
    """Masks are boolean; one of numbers, if it is taken, is added to the scores."""
    mechanism = build(form)
    tensors = inputs(mechanism)

    def masked(mask: Tensor) -> Tensor:
        out: Tensor = mechanism(*tensors, **{argument: mask})
        return out

    for dtype, length in ((torch.long, SEQ_LEN), (torch.bool, SEQ_LEN + 1)):
        wrong = torch.ones(rows, length, dtype=dtype)
        require_refusal(partial(masked, wrong), ValueError, f"{argument} is")
    try:
        out = masked(torch.full((rows, SEQ_LEN), 3.0))
    except ValueError as error:
        require(f"{argument} is" in str(error), f"is refused without its name: {error}")
    else:
        require_near(out, mechanism(*tensors), "output with 3 added to all scores")


def _require_finite(found: list[Tensor]) -> None:
    for gradient in found:
        require(gradient.isfinite().all(), "a gradient is not finite")
