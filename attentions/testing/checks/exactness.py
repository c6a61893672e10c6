"""Which function a mechanism computes: softmax attention or another, and that of its slow form."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ..check import Broken, Untestable, check, require
from ..forms import (
    FAR,
    LONG,
    SEQ_LEN,
    Form,
    build,
    dtypes_of,
    gradients,
    has_gradients,
    inputs,
)
from ..tolerances import require_near, require_near_gradients

_LARGE = 50.0


@check("exact", lambda form: form.is_core and form.can.exact)
def an_exact_mechanism_is_softmax_attention(form: Form) -> None:
    """In every claimed dtype, against float64."""
    for dtype in dtypes_of(form):
        mechanism = build(form, dtype=dtype)
        _require_softmax(form, mechanism, inputs(mechanism, dtype=dtype), "the output")


@check("exact", lambda form: form.is_core and form.can.exact)
def an_exact_mechanism_stays_so_where_others_part(form: Form) -> None:
    """With more keys than a window or a selection holds, and where few keys have all the weight."""
    mechanism = build(form, seq_len=FAR)
    _require_softmax(form, mechanism, inputs(mechanism), f"{FAR} tokens")
    mechanism = build(form)
    q, k, v = inputs(mechanism)
    sharp = _LARGE * q / q.norm(dim=-1, keepdim=True)
    _require_softmax(form, mechanism, (sharp, k, v), f"queries of norm {_LARGE}")


def _require_softmax(form: Form, mechanism: Any, tensors: tuple[Tensor, ...], what: str) -> None:
    q, k, v = (x.double() for x in tensors)
    exact = functional.scaled_dot_product_attention(q, k, v, is_causal=form.causal)
    require_near(mechanism(*tensors), exact, what)


@check("exact", lambda form: form.is_core and not form.can.exact, per_form=False, earns=False)
def a_mechanism_that_is_not_exact_is_another_function(form: Form) -> None:
    """Otherwise it would claim less than it can.

    It must differ among many keys, of which a window sees some, or among few, where a sink shows.
    """
    is_same = True
    for seq_len in (SEQ_LEN, FAR):
        mechanism = build(form, seq_len=seq_len)
        q, k, v = inputs(mechanism)
        softmax = functional.scaled_dot_product_attention(q, k, v, is_causal=form.causal)
        is_same &= torch.allclose(mechanism(q, k, v), softmax, atol=1e-3)
    require(not is_same, "it is softmax attention, so claim exact")


@check("reference", cases=((1,), (SEQ_LEN,), (LONG,)))
def outputs_and_gradients_equal_the_reference_in_float64(form: Form, seq_len: int) -> None:
    """Gradients of inputs and of learned values."""
    mechanism = build(form, seq_len=seq_len, dtype=torch.float64)
    trains = has_gradients(mechanism)
    tensors = inputs(mechanism, dtype=torch.float64, requires_grad=trains)
    out, expected = mechanism(*tensors), _slow_form(mechanism, tensors)
    if expected is None:
        raise Untestable("it gives no slow form")
    require_near(out, expected, "the output")
    if not trains:
        return
    learned = [*tensors, *(p for p in mechanism.parameters() if p.requires_grad)]
    found, wanted = (gradients(x, learned, of_all=True) for x in (out, expected))
    require_near_gradients(found, wanted, "the output")


def _slow_form(mechanism: Any, tensors: tuple[Tensor, ...]) -> Tensor | None:
    """Output of `reference`, which may not call `forward`: it would be compared with itself."""

    def refuse(*_: Any, **__: Any) -> Tensor:
        raise Broken("reference calls forward, which it is there to check")

    mechanism.forward = refuse
    try:
        expected: Tensor | None = mechanism.reference(*tensors)
    finally:
        del mechanism.forward
    return expected
