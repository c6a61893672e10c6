"""Independence: of rows of a batch, of heads, and of the order of keys."""

from __future__ import annotations

import torch
from torch import Tensor

from ..check import check, require
from ..forms import FAR, MEDIUM, SEQ_LEN, Form, build, gradients, inputs
from ..tolerances import require_near

ROWS = 5
"""Enough that each row has neighbours on both sides and others that are farther."""
LENGTHS = (SEQ_LEN, MEDIUM)


def _has_independent_heads(form: Form) -> bool:
    return form.is_core and form.can.heads_independent


@check("batch")
def batch_rows_are_independent(form: Form) -> None:
    """To the bit, for each row in turn, whatever the values of all others."""
    for seq_len in LENGTHS:
        mechanism = build(form, seq_len=seq_len)
        tensors = inputs(mechanism, batch_size=ROWS)
        out = mechanism(*tensors)
        for row in range(ROWS) if seq_len == SEQ_LEN else (0, ROWS - 1):
            changed = [_all_but(x, row, dim=0) for x in tensors]
            again = mechanism(*changed)
            require(torch.equal(again[row], out[row]), f"other rows change row {row}")
            require(not torch.equal(again, out), "another input gives the same output")


@check("batch")
def a_batch_of_one_row_gives_what_the_row_gives_among_others(form: Form) -> None:
    """But for rounding: products of other sizes are summed in another order."""
    mechanism = build(form)
    tensors = inputs(mechanism, batch_size=ROWS)
    alone = torch.cat([mechanism(*(x[row : row + 1] for x in tensors)) for row in range(ROWS)])
    require_near(alone, mechanism(*tensors), "the output of rows alone")


@check("heads", _has_independent_heads, cases=(("head", 1),))
@check("batch", cases=(("row", 0),))
def one_sends_no_gradient_to_others(form: Form, what: str, dim: int) -> None:
    """To the bit: a backward pass can mix what the forward pass keeps apart."""
    mechanism = build(form)
    tensors = inputs(mechanism, batch_size=ROWS, requires_grad=True)
    out = mechanism(*tensors)
    for one in range(out.shape[dim]):
        for gradient in gradients(out.select(dim, one), tensors, retain_graph=True):
            others = gradient.transpose(0, dim)[torch.arange(out.shape[dim]) != one]
            require(others.eq(0).all(), f"{what} {one} sends a gradient to others")


@check(
    "heads",
    lambda form: form.is_core and not form.can.heads_independent,
    per_form=False,
    earns=False,
)
@check("heads", _has_independent_heads)
def heads_are_independent_exactly_if_claimed(form: Form) -> None:
    """To the bit, for each head in turn; a core that is said to mix heads must do so."""
    mechanism = build(form)
    tensors = inputs(mechanism)
    out = mechanism(*tensors)
    is_so = True
    for head in range(tensors[0].shape[1]):
        again = mechanism(*(_all_but(x, head, dim=1) for x in tensors))
        require(not torch.equal(again, out), "another input gives the same output")
        is_so &= torch.equal(again[:, head], out[:, head])
    words = "" if is_so else "not "
    require(is_so == form.can.heads_independent, f"heads are {words}independent")


def _all_but(x: Tensor, kept: int, *, dim: int) -> Tensor:
    """A copy with other numbers everywhere but at one index of a dimension."""
    is_kept = torch.arange(x.shape[dim]) == kept
    sizes = [1] * x.dim()
    sizes[dim] = x.shape[dim]
    return torch.where(is_kept.view(sizes), x, 3 * torch.randn_like(x))


@check(
    "order",
    lambda form: form.is_core and form.can.position_free and form.can.bidirectional,
    per_form=False,
)
def order_does_not_matter_to_a_position_free_mechanism(form: Form) -> None:
    """Permuted keys and values change nothing; permuted queries permute the outputs."""
    for seq_len in LENGTHS:
        mechanism = build(form, seq_len=seq_len, dtype=torch.float64)
        q, k, v = inputs(mechanism, dtype=torch.float64)
        out = mechanism(q, k, v)
        queries, keys = torch.randperm(seq_len), torch.randperm(seq_len)
        again = mechanism(q[:, :, queries], k[:, :, keys], v[:, :, keys])
        require_near(again, out[:, :, queries], "the output of another order")


@check("order", lambda form: not form.can.position_free, per_form=False, earns=False)
def order_matters_to_a_mechanism_that_is_not_position_free(form: Form) -> None:
    """Otherwise it would claim less than it can."""
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
