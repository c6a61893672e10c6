"""Every registered mechanism is put through what it claims; a new name is picked up by itself.

The checks are those of `attnbench verify conformance=true`: one test per form and claim.
Those of recurrent mechanisms are in test_conformance_recurrent.py.
"""

import pytest
import torch

from bench.studies.conformance import graphs
from bench.studies.conformance.check import Untestable
from tests.attentions.claims import FORMS, OTHERS, forms_and_claims, keeps


@pytest.mark.usefixtures("no_tracing_of_gradients")
@pytest.mark.parametrize(("form", "claim"), forms_and_claims(OTHERS))
def test_a_mechanism_keeps_what_it_claims(form, claim):
    keeps(form, claim)


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
