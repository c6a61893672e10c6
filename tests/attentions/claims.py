"""Forms and claims for the tests of conformance: a file for recurrent mechanisms, one for the rest.

Two files, so that two workers share what would be half of the time of `make test` for one.
"""

from __future__ import annotations

import pytest
import torch

import attentions
from attentions.adapters.extras import EXTRAS
from bench.studies.conformance.check import Untestable
from bench.studies.conformance.forms import SEQ_LEN, forms_of
from bench.studies.conformance.run import checks_for
from bench.studies.conformance.suite import CLAIMS

FORMS = [form for name in attentions.attention_names() for form in forms_of(name)]
RECURRENT = [f for f in FORMS if attentions.attention_class(f.name).family == "recurrent"]
OTHERS = [form for form in FORMS if form not in RECURRENT]


def is_ours(form):
    """An adapter's package answers for itself; what it claims is compared with what there is."""
    return not set(form.can.requires) & set(EXTRAS)


def _cases(form, claim, *, needs_card):
    return [
        (check, case)
        for check, case in checks_for(form)
        if check.claim == claim and check.needs_card == needs_card
    ]


SLOW_CLAIMS = (
    *("any_shape", "batch", "precision", "finite", "deterministic", "compile", "export", "flops"),
)
"""Claims that `make test` tests of `FIRST` alone, and the slow tests of all others: together two
thirds of the time of all. Of all others it runs `CHEAP_CASES`, and of FLOPs what
tests/bench/measuring/costs/test_formulas.py has."""
FIRST = ("softmax", "nala", "sigmoid", "gla", "rala_layer")
"""A mechanism of each engine, and a layer."""
CHEAP_CASES = {
    "any_shape_gives_what_the_slow_form_gives": (((2, 1, 7, 5, 3),), ((1, 3, 61, 12, 20),)),
    "fewer_tokens_than_it_was_built_for_give_what_the_slow_form_gives": ((),),
    "shared_heads_of_keys_give_what_the_slow_form_gives": ((),),
    "a_batch_of_one_row_gives_what_the_row_gives_among_others": ((),),
    "narrow_dtypes_lose_no_more_than_their_own_rounding": ((torch.bfloat16, SEQ_LEN),),
}
"""Of these claims, checks and cases that take milliseconds, which `make test` runs of all."""
GENERATED = ("softmax_flex",)
"""Mechanisms whose calls compile a kernel: of their claims, the slow tests test all but one."""


def _marks(form, claim):
    is_slow = claim in SLOW_CLAIMS or (form.name in GENERATED and claim != "reference")
    return [pytest.mark.slow] if is_slow and form.name not in FIRST else []


def forms_and_claims(forms, *, needs_card=False):
    return [
        pytest.param(form, claim, id=f"{form.id}-{claim}", marks=_marks(form, claim))
        for form in forms
        for claim in CLAIMS
        if is_ours(form) or claim == "forms"
        if _cases(form, claim, needs_card=needs_card)
    ]


def keeps(form, claim, *, needs_card=False):
    _run(form, _cases(form, claim, needs_card=needs_card))


BEYOND_FIRST = [form for form in FORMS if is_ours(form) and form.name not in (*FIRST, *GENERATED)]


def keeps_cheap_cases(form):
    _run(
        form,
        [
            (check, case)
            for check, case in checks_for(form)
            if case in CHEAP_CASES.get(check.name, ())
        ],
    )


def _run(form, cases):
    untestable = []
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
