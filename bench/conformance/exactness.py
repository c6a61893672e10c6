"""Which function it is: softmax attention itself, another one, and the one of its slow form."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from bench.conformance.check import Broken, Check, Untestable, always, require, require_close
from bench.conformance.forms import (
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

_LARGE = 50.0
# Relative to the largest output.
_TOLERANCES = {torch.float64: 1e-12, torch.float32: 1e-6, torch.float16: 2e-3, torch.bfloat16: 2e-2}


def an_exact_mechanism_is_softmax_attention(form: Form) -> None:
    """In every claimed dtype, against float64."""
    for dtype in dtypes_of(form):
        mechanism = build(form, dtype=dtype)
        _require_softmax(form, mechanism, inputs(mechanism, dtype=dtype), f"{dtype}")


def an_exact_mechanism_stays_so_where_others_part(form: Form) -> None:
    """Among more keys than a window or a selection holds, and where few keys have all weight."""
    mechanism = build(form, seq_len=FAR)
    _require_softmax(form, mechanism, inputs(mechanism), f"{FAR} tokens")
    mechanism = build(form)
    q, k, v = inputs(mechanism)
    sharp = _LARGE * q / q.norm(dim=-1, keepdim=True)
    _require_softmax(form, mechanism, (sharp, k, v), f"queries of norm {_LARGE}")


def _require_softmax(form: Form, mechanism: Any, tensors: tuple[Tensor, ...], what: str) -> None:
    q, k, v = (x.double() for x in tensors)
    exact = functional.scaled_dot_product_attention(q, k, v, is_causal=form.causal)
    error = (mechanism(*tensors) - exact).abs().max() / exact.abs().max()
    require(error < _TOLERANCES[tensors[0].dtype], f"{what}: off by {error:.2g} of the largest")


def a_mechanism_that_is_not_exact_is_another_function(form: Form) -> None:
    """Else it would claim less than it can."""
    mechanism = build(form, seq_len=FAR)
    q, k, v = inputs(mechanism)
    softmax = functional.scaled_dot_product_attention(q, k, v)
    is_same = torch.allclose(mechanism(q, k, v), softmax, atol=1e-3)
    require(not is_same, "it is softmax attention, so claim exact")


def outputs_and_gradients_equal_the_reference_in_float64(form: Form, seq_len: int) -> None:
    """Gradients of inputs and of learned values."""
    mechanism = build(form, seq_len=seq_len, dtype=torch.float64)
    trains = has_gradients(mechanism)
    tensors = inputs(mechanism, dtype=torch.float64, requires_grad=trains)
    out, expected = mechanism(*tensors), _slow_form(mechanism, tensors)
    if expected is None:
        raise Untestable("it gives no slow form")
    require_close(out, expected, "the output", rtol=1e-9, atol=1e-10)
    if not trains:
        return
    learned = [*tensors, *mechanism.parameters()]
    pairs = zip(gradients(out, learned), gradients(expected, learned), strict=True)
    for place, (got, want) in enumerate(pairs):
        scale = max(1.0, want.abs().max().item())
        require_close(got, want, f"gradient {place}", rtol=1e-8, atol=1e-9 * scale)


def _slow_form(mechanism: Any, tensors: tuple[Tensor, ...]) -> Tensor | None:
    """What `reference` gives, with `forward` out of its reach: it would prove itself."""

    def refuse(*_: Any, **__: Any) -> Tensor:
        raise Broken("reference calls forward, which it is there to check")

    mechanism.forward = refuse
    try:
        expected: Tensor | None = mechanism.reference(*tensors)
    finally:
        del mechanism.forward
    return expected


CHECKS = (
    Check(
        claim="exact",
        run=an_exact_mechanism_is_softmax_attention,
        applies=lambda form: form.is_core and form.can.exact,
    ),
    Check(
        claim="exact",
        run=an_exact_mechanism_stays_so_where_others_part,
        applies=lambda form: form.is_core and form.can.exact,
    ),
    Check(
        claim="exact",
        run=a_mechanism_that_is_not_exact_is_another_function,
        applies=lambda form: form.is_core and not form.can.exact,
        per_form=False,
        earns=False,
    ),
    Check(
        claim="reference",
        run=outputs_and_gradients_equal_the_reference_in_float64,
        applies=always,
        cases=((1,), (SEQ_LEN,), (LONG,)),
    ),
)
