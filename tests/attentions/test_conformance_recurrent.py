"""Every recurrent mechanism is put through what it claims, as in test_conformance.py."""

import pytest

from tests.attentions.claims import RECURRENT, forms_and_claims, keeps


@pytest.mark.usefixtures("no_tracing_of_gradients")
@pytest.mark.parametrize(("form", "claim"), forms_and_claims(RECURRENT))
def test_a_mechanism_keeps_what_it_claims(form, claim):
    keeps(form, claim)
