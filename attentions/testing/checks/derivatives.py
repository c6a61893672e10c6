"""Gradients against finite differences, which know nothing of any formula."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..check import Broken, check, require
from ..forms import LONG, Form, build, inputs
from ..tolerances import require_near_gradients

_STEP = 1e-6
_OF_DIFFERENCES = 1e-4
"""Relative error that finite differences with this step have themselves."""


def _has_true_gradients(form: Form) -> bool:
    return form.can.true_gradients


@check("gradients", _has_true_gradients)
def gradients_equal_finite_differences(form: Form) -> None:
    """Gradients of inputs and of learned values, in float64, along random directions."""
    mechanism = build(form, dtype=torch.float64)
    tensors = inputs(mechanism, dtype=torch.float64, requires_grad=True, batch_size=1)
    learned = tuple(p for p in mechanism.parameters() if p.requires_grad)

    def call(*given: Tensor) -> Tensor:
        # The learned values are stepped in place, so the mechanism sees their steps.
        out: Tensor = mechanism(*given[: len(tensors)])
        return out

    try:
        torch.autograd.gradcheck(
            call, (*tensors, *learned), fast_mode=True, atol=1e-5, rtol=_OF_DIFFERENCES
        )
    except RuntimeError as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        raise Broken(" ".join(lines[:3])) from error


@check("gradients", _has_true_gradients)
def gradients_of_long_inputs_equal_finite_differences(form: Form) -> None:
    """Along one random direction of all inputs together, across the borders of chunks."""
    mechanism = build(form, seq_len=LONG, dtype=torch.float64)
    tensors = inputs(mechanism, dtype=torch.float64, requires_grad=True, batch_size=1)
    out = mechanism(*tensors)
    cotangent = torch.randn_like(out)
    directions = [torch.randn_like(x) for x in tensors]
    pairs = zip(_slopes(out, tensors, cotangent), directions, strict=True)
    said = sum(((gradient * direction).sum() for gradient, direction in pairs), torch.zeros(()))
    ends = [_stepped(mechanism, tensors, directions, step) for step in (_STEP, -_STEP)]
    seen = ((ends[0] - ends[1]) * cotangent).sum() / (2 * _STEP)
    is_near = (said - seen).abs() <= _OF_DIFFERENCES * (1 + seen.abs())
    require(is_near, f"the slope is {said:.6g}, finite differences say {seen:.6g}")


def _slopes(
    out: Tensor, tensors: Sequence[Tensor], cotangent: Tensor, *, retain_graph: bool = False
) -> tuple[Tensor, ...]:
    """The gradient of each tensor, zeros if the output does not depend on it."""
    return torch.autograd.grad(
        out, tensors, cotangent, retain_graph=retain_graph, materialize_grads=True
    )


def _stepped(
    mechanism: Any, tensors: tuple[Tensor, ...], directions: list[Tensor], step: float
) -> Tensor:
    with torch.no_grad():
        moved = (x + step * y for x, y in zip(tensors, directions, strict=True))
        out: Tensor = mechanism(*moved)
    return out


@check("gradients", _has_true_gradients)
def gradients_are_the_same_however_they_are_asked_for(form: Form) -> None:
    """A second time, for a cotangent with other strides, and for one input alone."""
    mechanism = build(form)
    tensors = inputs(mechanism, requires_grad=True)
    out = mechanism(*tensors)
    cotangent = torch.randn_like(out)
    expected = _slopes(out, tensors, cotangent, retain_graph=True)
    again = _slopes(out, tensors, cotangent, retain_graph=True)
    for got, want in zip(again, expected, strict=True):
        require(torch.equal(got, want), "a gradient that is taken twice differs")
    strided = cotangent.transpose(-3, -2).contiguous().transpose(-3, -2)
    require_near_gradients(
        _slopes(out, tensors, strided, retain_graph=True), expected, "other strides"
    )
    ones = torch.ones_like(out)
    whole = _slopes(out, tensors, ones, retain_graph=True)
    require_near_gradients(
        _slopes(out.sum(), tensors, torch.ones(())), whole, "a cotangent without strides"
    )
    if len(tensors) == 1:
        return
    for place in range(len(tensors)):
        alone = [x.detach().requires_grad_(i == place) for i, x in enumerate(tensors)]
        out = mechanism(*alone)
        if out.requires_grad:
            found = _slopes(out, alone[place : place + 1], cotangent)
            require_near_gradients(found, expected[place : place + 1], f"input {place} alone")
        else:
            require(expected[place].eq(0).all(), f"input {place} alone gets no gradient")
