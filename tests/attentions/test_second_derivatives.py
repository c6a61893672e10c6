"""Gradients of gradients are those of the slow form, or torch says that there are none."""

import pytest
import torch

from attentions.testing.forms import build, inputs
from tests.attentions.claims import FORMS, GENERATED, is_ours

REFUSALS = ("is not implemented",)
CORES = [
    form
    for form in FORMS
    if form.is_core and form.is_first and form.can.true_gradients
    if is_ours(form) and not form.is_published and form.name not in GENERATED
]


def second_derivatives(out, tensors):
    first = torch.autograd.grad(
        out.square().sum(), tensors, create_graph=True, materialize_grads=True
    )
    for x in tensors:
        x.grad = torch.zeros_like(x)
    sum(gradient.square().sum() for gradient in first).backward()
    return [x.grad for x in tensors]


@pytest.mark.parametrize("form", CORES, ids=lambda form: form.id)
def test_gradients_of_gradients_are_those_of_the_slow_form_or_refused(form):
    core = build(form, dtype=torch.float64)
    tensors = inputs(core, dtype=torch.float64, batch_size=1, requires_grad=True)
    slow = core.reference(*tensors)
    if slow is None:
        pytest.skip("it gives no slow form")
    try:
        found = second_derivatives(core(*tensors), tensors)
    except RuntimeError as error:
        assert any(words in str(error) for words in REFUSALS), error
        return
    expected = second_derivatives(slow, tensors)
    if not all(want.isfinite().all() for want in expected):
        pytest.skip("the slow form has none")
    for got, want in zip(found, expected, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-7, atol=1e-9 * float(want.abs().max() + 1))
