"""Narrow dtypes: no more error than their own rounding, and nothing that is not finite."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor

from bench.conformance.check import Check, always, require
from bench.conformance.forms import (
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
from bench.conformance.tolerances import require_near, require_near_gradients

DTYPES = ((torch.float32,), (torch.bfloat16,), (torch.float16,))
LARGEST_NORM = {torch.float32: 1e3, torch.bfloat16: 1e3, torch.float16: 1e2}
"""Of a row up to which outputs and gradients are promised to be finite; the smallest is 1e-6."""


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


def adversaries(x: Tensor, which: str, dtype: torch.dtype) -> Iterator[tuple[str, Tensor]]:
    """(name, tensor) pairs of inputs that are hard on powers, norms and exponentials."""
    unit = x / x.norm(dim=-1, keepdim=True)
    first_zero = x.clone()
    first_zero[..., 0, :] = 0
    yield f"first {which} zero", first_zero
    yield f"all {which} zero", torch.zeros_like(x)
    yield f"all {which} negative", -x.abs()
    yield f"all {which} the same number", torch.ones_like(x)
    yield f"all {which} the same token", x[..., :1, :].expand_as(x).contiguous()
    for norm in (1e-6, 50, LARGEST_NORM[dtype]):
        yield f"all {which} of norm {norm:g}", unit * norm


def adversarial_inputs(
    tensors: tuple[Tensor, ...], dtype: torch.dtype
) -> dict[str, tuple[Tensor, ...]]:
    """Each adversary in place of queries, of keys, and of both; of tokens, if it is a layer."""
    cases = {"plain": tensors}
    places = ("queries", "keys") if len(tensors) > 1 else ("tokens",)
    for place, which in enumerate(places):
        for case, hard in adversaries(tensors[place], which, dtype):
            cases[case] = (*tensors[:place], hard, *tensors[place + 1 :])
    if len(tensors) > 1:
        q, k, v = tensors
        for (case, hard_q), (_, hard_k) in zip(
            adversaries(q, "queries and keys", dtype), adversaries(k, "keys", dtype), strict=True
        ):
            cases[case] = (hard_q, hard_k, v)
    return cases


def outputs_and_gradients_are_finite_on_adversarial_inputs(form: Form, dtype: torch.dtype) -> None:
    """Gradients of inputs and of learned values."""
    mechanism = build(form, dtype=dtype)
    for case, given in adversarial_inputs(inputs(mechanism), dtype).items():
        tensors = [x.to(dtype).requires_grad_(has_gradients(mechanism)) for x in given]
        out = mechanism(*tensors)
        require(out.isfinite().all(), f"{name_of(dtype)}, {case}: an output is not finite")
        if not has_gradients(mechanism):
            continue
        learned = [p for p in mechanism.parameters() if p.requires_grad]
        for gradient in gradients(out, [*tensors, *learned]):
            require(
                gradient.isfinite().all(), f"{name_of(dtype)}, {case}: a gradient is not finite"
            )


CHECKS = (
    Check(
        claim="precision",
        run=narrow_dtypes_lose_no_more_than_their_own_rounding,
        applies=always,
        cases=(
            (torch.float32, SEQ_LEN),
            (torch.float32, MEDIUM),
            (torch.bfloat16, SEQ_LEN),
            (torch.float16, SEQ_LEN),
        ),
    ),
    Check(
        claim="finite",
        run=outputs_and_gradients_are_finite_on_adversarial_inputs,
        applies=lambda form: not form.is_published,
        cases=DTYPES,
    ),
)
