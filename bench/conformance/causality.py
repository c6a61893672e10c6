"""Causality: what comes later changes no bit of what came before, in outputs and gradients."""

from __future__ import annotations

import torch

from bench.conformance.check import Check, require
from bench.conformance.forms import LONG, Form, build, gradients, inputs

MOMENTS = (0, 60, 127, 128, 255, 298)
"""Within chunks, and on both sides of their borders."""
HUGE = 1e4


def the_future_changes_no_bit_of_the_past(form: Form) -> None:
    """Later tokens become huge."""
    mechanism = build(form, seq_len=LONG)
    tensors = inputs(mechanism)
    out = mechanism(*tensors)
    for now in MOMENTS:
        changed = [x.clone() for x in tensors]
        for x in changed:
            x[..., now + 1 :, :] = HUGE * torch.randn_like(x[..., now + 1 :, :])
        again = mechanism(*changed)
        past = slice(0, now + 1)
        require(
            torch.equal(again[..., past, :], out[..., past, :]),
            f"tokens after {now} change what comes out up to {now}",
        )
        require(not torch.equal(again, out), "another input gives the same output")


def the_future_sends_no_gradient_to_the_past(form: Form) -> None:
    """Nor takes one: what comes out up to now depends on inputs up to now only."""
    mechanism = build(form, seq_len=LONG)
    tensors = inputs(mechanism, requires_grad=True)
    now = 140
    for gradient in gradients(mechanism(*tensors)[..., : now + 1, :], tensors):
        later, past = gradient[..., now + 1 :, :], gradient[..., : now + 1, :]
        require(later.eq(0).all(), f"outputs up to {now} send a gradient to what comes later")
        require(past.ne(0).any(), f"outputs up to {now} send no gradient at all")


CHECKS = (
    Check(
        claim="causal",
        run=the_future_changes_no_bit_of_the_past,
        applies=lambda form: form.causal,
    ),
    Check(
        claim="causal",
        run=the_future_sends_no_gradient_to_the_past,
        applies=lambda form: form.causal,
    ),
)
