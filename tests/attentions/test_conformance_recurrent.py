"""Every recurrent mechanism is put through what it claims, as in test_conformance.py."""

import pytest

from tests.attentions.claims import RECURRENT, keeps, quick_cases, with_any


@pytest.mark.usefixtures("no_tracing_of_gradients")
@with_any(quick_cases, RECURRENT)
def test_a_mechanism_keeps_what_it_claims(form):
    keeps(form, quick_cases(form))
