"""Activation checkpoints, by which large models are trained, change no gradient."""

from __future__ import annotations

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from attentions.testing.forms import build, inputs
from tests.attentions.claims import FORMS, GENERATED, is_ours

CORES = [
    form
    for form in FORMS
    if form.is_core and form.is_first
    if is_ours(form) and not form.is_published and form.name not in GENERATED
]


@pytest.mark.parametrize("form", CORES, ids=lambda form: form.id)
def test_gradients_through_a_checkpoint_are_those_without(form):
    core = build(form, dtype=torch.float64)
    tensors = inputs(core, dtype=torch.float64, batch_size=1, requires_grad=True)
    out = core(*tensors)
    grad_out = torch.randn_like(out)
    expected = torch.autograd.grad(out, tensors, grad_out, materialize_grads=True)
    again = checkpoint(core, *tensors, use_reentrant=False)
    found = torch.autograd.grad(again, tensors, grad_out, materialize_grads=True)
    for got, want in zip(found, expected, strict=True):
        torch.testing.assert_close(got, want)
