"""Every registered mechanism is put through what it claims; a new name is picked up by itself.

The checks are those of `attnbench verify conformance=true`: one test per form and claim.
Those of recurrent mechanisms are in test_conformance_recurrent.py.
"""

import pytest
import torch

from bench.studies.conformance import graphs
from bench.studies.conformance.check import Untestable
from bench.studies.conformance.suite import CHECKS
from tests.attentions.claims import (
    BEYOND_FIRST,
    CHEAP_CASES,
    FORMS,
    OTHERS,
    forms_and_claims,
    keeps,
    keeps_cheap_cases,
)


@pytest.mark.usefixtures("no_tracing_of_gradients")
@pytest.mark.parametrize(("form", "claim"), forms_and_claims(OTHERS))
def test_a_mechanism_keeps_what_it_claims(form, claim):
    keeps(form, claim)


def test_the_cheap_cases_are_cases_of_checks():
    known = {check.name: check.cases for check in CHECKS}
    assert all(case in known[name] for name, cases in CHEAP_CASES.items() for case in cases)


@pytest.mark.parametrize("form", BEYOND_FIRST, ids=lambda form: form.id)
def test_a_mechanism_keeps_the_cheap_part_of_what_slow_tests_look_at(form):
    keeps_cheap_cases(form)


@pytest.mark.gpu
@pytest.mark.parametrize(("form", "claim"), forms_and_claims(FORMS, needs_card=True))
def test_a_mechanism_keeps_what_it_claims_on_cuda(form, claim):
    keeps(form, claim, needs_card=True)


@pytest.mark.slow
@pytest.mark.parametrize("form", [f for f in FORMS if f.can.compiles], ids=lambda form: form.id)
def test_compile_takes_forward_and_backward_as_one_graph(form):
    torch.manual_seed(0)
    try:
        graphs.compile_takes_it_as_one_graph(form)
    except Untestable as why:
        pytest.skip(str(why))
