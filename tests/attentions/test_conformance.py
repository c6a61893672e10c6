"""Every registered mechanism is put through what it claims; a new name is picked up by itself.

The checks are those of `python -m bench.verify conformance=true`. Each is a case of one test here.
"""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import attentions
from attentions.extras import EXTRAS
from bench.conformance import graphs
from bench.conformance.check import Untestable
from bench.conformance.forms import forms_of
from bench.conformance.recurrence import a_split_prompt_equals_the_whole
from bench.conformance.run import checks_for
from bench.conformance.shapes import any_shape_gives_what_the_slow_form_gives


def _id(check, form, case):
    return "-".join([check.name, *map(str, case), form.id])


FORMS = [form for name in attentions.attention_names() for form in forms_of(name)]
CASES = [
    pytest.param(
        check,
        form,
        case,
        id=_id(check, form, case),
        marks=[pytest.mark.gpu] if check.needs_cuda else [],
    )
    for form in FORMS
    for check, case in checks_for(form)
]


@pytest.fixture
def no_tracing_of_gradients(monkeypatch):
    """One graph of the forward pass, run as it is: a quarter of the time of the check itself."""
    monkeypatch.setattr(graphs, "BACKEND", "eager")


@pytest.mark.usefixtures("no_tracing_of_gradients")
@pytest.mark.parametrize(("check", "form", "case"), CASES)
def test_a_mechanism_keeps_what_it_claims(check, form, case):
    try:
        check(form, case)
    except Untestable as why:
        pytest.skip(str(why))


@pytest.mark.slow
@pytest.mark.parametrize("form", [f for f in FORMS if f.can.compiles], ids=lambda form: form.id)
def test_compile_takes_forward_and_backward_as_one_graph(form):
    torch.manual_seed(0)
    try:
        graphs.compile_takes_it_as_one_graph(form)
    except Untestable as why:
        pytest.skip(str(why))


SIZES = st.integers(1, 20)
# Around the chunks of 64 and 128, and where a grid has one row.
LENGTHS = st.integers(1, 20) | st.sampled_from([63, 64, 65, 127, 128, 129, 257])
SHAPES = st.tuples(st.integers(1, 3), st.integers(1, 3), LENGTHS, SIZES, SIZES)
few_examples = settings(max_examples=6, deadline=None, derandomize=True, database=None)


# An adapter's package answers for itself; see test_peers, test_backend_fla, test_fused_softmax.
OURS = [form for form in FORMS if not set(form.can.requires) & set(EXTRAS)]


@pytest.mark.parametrize("form", OURS, ids=lambda form: form.id)
@few_examples
@given(shape=SHAPES)
def test_any_shape_gives_what_the_slow_form_gives(form, shape):
    torch.manual_seed(0)
    try:
        any_shape_gives_what_the_slow_form_gives(form, shape)
    except Untestable as why:  # a shape may be refused, by a message that names it
        assert "refused" in str(why)


@pytest.mark.parametrize(
    "form", [f for f in FORMS if f.causal and f.can.recurrent], ids=lambda form: form.id
)
@few_examples
@given(lengths=st.lists(st.integers(1, 70), min_size=1, max_size=5))
def test_a_prompt_may_be_split_anywhere(form, lengths):
    torch.manual_seed(0)
    a_split_prompt_equals_the_whole(form, torch.float32, lengths)
