"""What must not influence what: rows of a batch, heads, and the order of keys."""

from __future__ import annotations

import torch

from bench.conformance.check import Check, always, require, require_close
from bench.conformance.forms import FAR, SEQ_LEN, Form, build, inputs


def batch_rows_are_independent(form: Form) -> None:
    """To the bit."""
    mechanism = build(form)
    tensors = inputs(mechanism, batch_size=3)
    out = mechanism(*tensors)
    changed = [x.clone() for x in tensors]
    for x in changed:
        x[1] = 3 * torch.randn_like(x[1])
    again = mechanism(*changed)
    for row in (0, 2):
        require(torch.equal(again[row], out[row]), f"row 1 changed row {row}")
    require(not torch.equal(again[1], out[1]), "another input gives the same output")


def heads_are_independent_exactly_if_claimed(form: Form) -> None:
    """To the bit; a core that mixes heads must be seen to."""
    mechanism = build(form)
    q, k, v = inputs(mechanism)
    out = mechanism(q, k, v)
    changed = [x.clone() for x in (q, k, v)]
    for x in changed[:2]:
        x[:, 0] *= 2
    changed[2][:, 0] += 1
    again = mechanism(*changed)
    require(not torch.equal(again[:, 0], out[:, 0]), "another input gives the same output")
    is_so = torch.equal(again[:, 1:], out[:, 1:])
    words = "" if is_so else "not "
    require(is_so == form.can.heads_independent, f"heads are {words}independent")


def order_does_not_matter_to_a_position_free_mechanism(form: Form) -> None:
    """Permuted keys and values change nothing; permuted queries permute the outputs."""
    mechanism = build(form, dtype=torch.float64)
    q, k, v = inputs(mechanism, dtype=torch.float64)
    out = mechanism(q, k, v)
    queries, keys = torch.randperm(SEQ_LEN), torch.randperm(SEQ_LEN)
    again = mechanism(q[:, :, queries], k[:, :, keys], v[:, :, keys])
    require_close(again, out[:, :, queries], "another order")


def order_matters_to_a_mechanism_that_is_not_position_free(form: Form) -> None:
    """Else it would claim less than it can."""
    mechanism = build(form, seq_len=FAR, dtype=torch.float64)
    tensors = inputs(mechanism, dtype=torch.float64)
    order = torch.randperm(FAR)
    out = mechanism(*tensors)
    if form.is_core:  # keys and values permuted together
        q, *rest = tensors
        again = mechanism(q, *(x[..., order, :] for x in rest))
    else:
        again = mechanism(*(x[..., order, :] for x in tensors))
        out = out[..., order, :]
    require(not torch.allclose(again, out), "the order does not matter, so claim position_free")


CHECKS = (
    Check(claim="batch", run=batch_rows_are_independent, applies=always),
    Check(
        claim="heads",
        run=heads_are_independent_exactly_if_claimed,
        applies=lambda form: form.is_core and form.can.heads_independent,
        per_form=False,
    ),
    Check(
        claim="heads",
        run=heads_are_independent_exactly_if_claimed,
        applies=lambda form: form.is_core and not form.can.heads_independent,
        per_form=False,
        earns=False,
    ),
    Check(
        claim="order",
        run=order_does_not_matter_to_a_position_free_mechanism,
        applies=lambda form: form.is_core and form.can.position_free and form.can.bidirectional,
        per_form=False,
    ),
    Check(
        claim="order",
        run=order_matters_to_a_mechanism_that_is_not_position_free,
        applies=lambda form: not form.can.position_free,
        per_form=False,
        earns=False,
    ),
)
