"""Causality: what comes later changes no bit of what came before, in outputs and gradients."""

from __future__ import annotations

import torch
from torch import Tensor

from ..check import check, require
from ..forms import (
    FAR,
    LONG,
    SEQ_LEN,
    Form,
    build,
    gradients,
    has_gradients,
    inputs,
    name_of,
)

MOMENTS = {
    SEQ_LEN: tuple(range(SEQ_LEN - 1)),
    LONG: (0, 15, 60, 128, *range(31, LONG - 1, 32), LONG - 2),
    FAR: (255, 511, 639, FAR - 2),
}
"""Sequence length -> tokens at which the past ends: all of a short sequence; else the ends of
chunks of 32 and of its multiples, where some leaks show only there, and tokens within chunks."""
HUGE = 1e4


def _causal(form: Form) -> bool:
    return form.causal


@check(
    "causal",
    lambda form: form.causal and "bfloat16" in form.can.dtypes,
    cases=((SEQ_LEN, torch.bfloat16),),
)
@check("causal", _causal, cases=tuple((seq_len, torch.float32) for seq_len in MOMENTS))
def the_future_changes_no_bit_of_the_past(form: Form, seq_len: int, dtype: torch.dtype) -> None:
    """Later tokens become huge; in each row of the batch the past ends at another token.

    The short sequence needs gradients, for which mechanisms may take another code path.
    """
    moments = MOMENTS[seq_len]
    mechanism = build(form, seq_len=seq_len, dtype=dtype)
    trains = seq_len == SEQ_LEN and has_gradients(mechanism)
    tensors = inputs(mechanism, dtype=dtype, batch_size=len(moments), requires_grad=trains)
    out = mechanism(*tensors)
    again = mechanism(*(_with_another_future(x, moments) for x in tensors))
    for row, now in enumerate(moments):
        past = slice(0, now + 1)
        require(
            torch.equal(again[row, ..., past, :], out[row, ..., past, :]),
            f"leaks the future: of {seq_len} tokens in {name_of(dtype)}, those after {now} change "
            f"what comes out up to {now}",
        )
        require(not torch.equal(again[row], out[row]), "another input gives the same output")


def _with_another_future(x: Tensor, moments: tuple[int, ...]) -> Tensor:
    changed = x.detach().clone()
    for row, now in enumerate(moments):
        future = changed[row, ..., now + 1 :, :]
        future.copy_(HUGE * torch.randn_like(future))
    return changed.requires_grad_(x.requires_grad)


@check("causal", _causal, cases=((SEQ_LEN,), (LONG,)))
def the_future_sends_no_gradient_to_the_past(form: Form, seq_len: int) -> None:
    """Outputs up to a token depend on inputs up to that token only."""
    moments = MOMENTS[seq_len]
    mechanism = build(form, seq_len=seq_len)
    tensors = inputs(mechanism, requires_grad=True, batch_size=len(moments))
    out = mechanism(*tensors)
    cotangent = torch.randn(out.shape)
    for row, now in enumerate(moments):
        cotangent[row, ..., now + 1 :, :] = 0
    for gradient in gradients(out, tensors, cotangent):
        for row, now in enumerate(moments):
            later, past = gradient[row, ..., now + 1 :, :], gradient[row, ..., : now + 1, :]
            require(
                later.eq(0).all(),
                f"leaks the future: of {seq_len} tokens, outputs up to {now} send a gradient to "
                "what comes later",
            )
            require(past.ne(0).any() or now == 0, f"outputs up to {now} send no gradient at all")
