"""Every registered mechanism is put through what it claims; a new name is picked up by itself.

The checks are those of `python -m bench.verify conformance=true`: one test per form and claim.
"""

import pytest
import torch

import attentions
from attentions.adapters.extras import EXTRAS
from bench.studies.conformance import graphs
from bench.studies.conformance.check import Untestable
from bench.studies.conformance.forms import forms_of
from bench.studies.conformance.run import checks_for
from bench.studies.conformance.suite import CLAIMS

FORMS = [form for name in attentions.attention_names() for form in forms_of(name)]


def _is_ours(form):
    """An adapter's package answers for itself; what it claims is compared with what there is."""
    return not set(form.can.requires) & set(EXTRAS)


def _cases(form, claim, *, needs_cuda):
    return [
        (check, case)
        for check, case in checks_for(form)
        if check.claim == claim and check.needs_cuda == needs_cuda
    ]


TRACED = ("compile", "export")
"""Claims whose tests trace the module: a third of the time of all."""
TRACED_FIRST = ("softmax", "nala", "sigmoid", "gla")
"""A mechanism of each engine, whose traces `make test` takes; the slow tests take the others'."""


def _marks(form, claim):
    is_slow = claim in TRACED and form.name not in TRACED_FIRST
    return [pytest.mark.slow] if is_slow else []


def _forms_and_claims(*, needs_cuda):
    return [
        pytest.param(form, claim, id=f"{form.id}-{claim}", marks=_marks(form, claim))
        for form in FORMS
        for claim in CLAIMS
        if _is_ours(form) or claim == "forms"
        if _cases(form, claim, needs_cuda=needs_cuda)
    ]


def _keeps(form, claim, *, needs_cuda=False):
    untestable = []
    cases = _cases(form, claim, needs_cuda=needs_cuda)
    for check, case in cases:
        try:
            check(form, case)
        except Untestable as why:
            untestable.append(str(why))
        except Exception as error:
            error.add_note(f"by {check.name} of {form.id} with {case}")
            raise
    if len(untestable) == len(cases):
        pytest.skip(untestable[0])


@pytest.fixture
def no_tracing_of_gradients(monkeypatch):
    """One graph of the forward pass, run as it is: a quarter of the time of the check itself."""
    monkeypatch.setattr(graphs, "BACKEND", "eager")


@pytest.mark.usefixtures("no_tracing_of_gradients")
@pytest.mark.parametrize(("form", "claim"), _forms_and_claims(needs_cuda=False))
def test_a_mechanism_keeps_what_it_claims(form, claim):
    _keeps(form, claim)


@pytest.mark.gpu
@pytest.mark.parametrize(("form", "claim"), _forms_and_claims(needs_cuda=True))
def test_a_mechanism_keeps_what_it_claims_on_cuda(form, claim):
    _keeps(form, claim, needs_cuda=True)


@pytest.mark.slow
@pytest.mark.parametrize("form", [f for f in FORMS if f.can.compiles], ids=lambda form: form.id)
def test_compile_takes_forward_and_backward_as_one_graph(form):
    torch.manual_seed(0)
    try:
        graphs.compile_takes_it_as_one_graph(form)
    except Untestable as why:
        pytest.skip(str(why))
