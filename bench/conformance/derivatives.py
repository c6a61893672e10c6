"""Gradients against finite differences, which know nothing of any formula."""

from __future__ import annotations

import torch
from torch import Tensor

from bench.conformance.check import Broken, Check
from bench.conformance.forms import Form, build, inputs


def gradients_equal_finite_differences(form: Form) -> None:
    """Of inputs and of learned values, in float64, along random directions."""
    mechanism = build(form, dtype=torch.float64)
    tensors = inputs(mechanism, dtype=torch.float64, requires_grad=True, batch_size=1)
    learned = tuple(p for p in mechanism.parameters() if p.requires_grad)

    def call(*given: Tensor) -> Tensor:
        # The learned values are stepped in place, so the mechanism sees their steps.
        out: Tensor = mechanism(*given[: len(tensors)])
        return out

    try:
        torch.autograd.gradcheck(
            call, (*tensors, *learned), fast_mode=True, atol=1e-5, rtol=1e-4, nondet_tol=0.0
        )
    except RuntimeError as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        raise Broken(" ".join(lines[:3])) from error


CHECKS = (
    Check(
        claim="gradients",
        run=gradients_equal_finite_differences,
        applies=lambda form: form.can.true_gradients,
    ),
)
