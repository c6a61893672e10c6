"""Half precision: no more error than rounding, and finite on inputs that models produce."""

from __future__ import annotations

import copy

import torch

from ..check import check, require
from ..forms import (
    MEDIUM,
    SEQ_LEN,
    Form,
    build,
    dtypes_of,
    gradients,
    has_gradients,
    inputs,
    name_of,
)
from ..hard_inputs import hard_inputs
from ..tolerances import require_near, require_near_gradients

DTYPES = ((torch.float32,), (torch.bfloat16,), (torch.float16,))


@check(
    "precision",
    cases=(
        (torch.float32, SEQ_LEN),
        (torch.float32, MEDIUM),
        (torch.bfloat16, SEQ_LEN),
        (torch.float16, SEQ_LEN),
    ),
)
def narrow_dtypes_lose_no_more_than_their_own_rounding(
    form: Form, dtype: torch.dtype, seq_len: int
) -> None:
    """Output and gradients of inputs, against the same values in float64."""
    mechanism = build(form, seq_len=seq_len, dtype=dtype)
    trains = has_gradients(mechanism)
    tensors = inputs(mechanism, dtype=dtype, requires_grad=trains)
    widest = torch.float64 if torch.float64 in dtypes_of(form) else torch.float32
    wide = [x.detach().to(widest).requires_grad_(trains) for x in tensors]
    out, expected = mechanism(*tensors), copy.deepcopy(mechanism).to(widest)(*wide)
    require_near(out, expected, "the output")
    if trains:
        require_near_gradients(gradients(out, tensors), gradients(expected, wide), "the output")


@check("finite", lambda form: not form.is_published, cases=DTYPES)
def outputs_and_gradients_are_finite_on_hard_inputs(form: Form, dtype: torch.dtype) -> None:
    """Gradients of inputs and of learned values."""
    mechanism = build(form, dtype=dtype)
    for case, given in hard_inputs(inputs(mechanism), dtype).items():
        tensors = [x.to(dtype).requires_grad_(has_gradients(mechanism)) for x in given]
        out = mechanism(*tensors)
        words = f"in {name_of(dtype)} of shape {tuple(out.shape)} is not finite on {case}"
        require(out.isfinite().all(), f"the output {words}")
        if not has_gradients(mechanism):
            continue
        learned = [p for p in mechanism.parameters() if p.requires_grad]
        for gradient in gradients(out, [*tensors, *learned]):
            require(gradient.isfinite().all(), f"a gradient of the output {words}")
