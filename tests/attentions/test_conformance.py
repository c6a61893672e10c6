"""Every registered mechanism is put through what it claims; a new name is picked up by itself.

The checks are those of `attnbench verify conformance=true`: one test per form runs all of them and
tells all that they find. Recurrent mechanisms are in test_conformance_recurrent.py.
"""

import pytest
import torch

from attentions.testing.check import Untestable
from attentions.testing.checks import graphs
from attentions.testing.suite import CHECKS
from tests.attentions.claims import (
    CHEAP_CASES,
    OTHERS,
    SLOW_CASES,
    cases_of,
    keeps,
    quick_cases,
    slow_cases,
    with_any,
)


@pytest.mark.usefixtures("no_tracing_of_gradients")
@with_any(quick_cases, OTHERS)
def test_a_mechanism_keeps_what_it_claims(form):
    keeps(form, quick_cases(form))


@pytest.mark.slow
@pytest.mark.usefixtures("no_tracing_of_gradients")
@with_any(slow_cases)
def test_a_mechanism_keeps_what_takes_longer(form):
    keeps(form, slow_cases(form))


@pytest.mark.gpu
@with_any(lambda form: cases_of(form, needs_card=True))
def test_a_mechanism_keeps_what_it_claims_on_cuda(form):
    keeps(form, cases_of(form, needs_card=True))


@pytest.mark.slow
@with_any(lambda form: form.can.compiles)
def test_compile_takes_forward_and_backward_as_one_graph(form):
    torch.manual_seed(0)
    try:
        graphs.compile_takes_it_as_one_graph(form)
    except Untestable as why:
        pytest.skip(str(why))


def test_cases_that_are_named_are_cases_of_checks_and_every_finding_is_told():
    known = {(check.name, case) for check in CHECKS for case in check.cases}
    named = [*CHEAP_CASES.items(), *SLOW_CASES.items()]
    assert {(name, case) for name, cases in named for case in cases} <= known
    (form,) = (form for form in OTHERS if form.id == "uniform")
    liar = [(check, ("no such case",)) for check, _ in cases_of(form)[:2]]
    with pytest.raises(ExceptionGroup, match="uniform does not keep") as caught:
        keeps(form, liar)
    assert len(caught.value.exceptions) == 2
