"""Forms and claims for the tests of conformance: a file for recurrent mechanisms, one for the rest.

Two files, so that two workers share what would be half of the time of `make test` for one.
"""

import pytest
import torch

import attentions
from attentions.adapters.extras import EXTRAS
from attentions.testing.check import Untestable
from attentions.testing.forms import FAR, SEQ_LEN, forms_of
from attentions.testing.suite import checks_for

FORMS = [form for name in attentions.attention_names() for form in forms_of(name)]
RECURRENT = [f for f in FORMS if attentions.attention_class(f.name).family == "recurrent"]
OTHERS = [form for form in FORMS if form not in RECURRENT]

SLOW_CLAIMS = (
    *("any_shape", "batch", "precision", "finite", "deterministic", "compile", "export", "flops"),
    *("prefix_reuse", "rollback", "batch_invariant", "train_equals_serve"),
    *("chunked_prefill", "padding_invariant", "packed"),
)
"""Claims that `make test` tests of `FIRST` alone, and the slow tests of all others: together
most of the time of all. Of all others it runs `CHEAP_CASES`, and of FLOPs what
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
"""Checks and cases of slow claims that take milliseconds, which `make test` runs of all."""
SLOW_CASES = {
    "steps_equal_the_causal_forward_however_the_prompt_is_split": (
        *((torch.float64,), (torch.bfloat16,), (torch.float16,)),
    ),
    "the_future_changes_no_bit_of_the_past": ((FAR, torch.float32),),
}
"""Cases of the other claims that `make test` leaves to the slow tests, but for `FIRST` and for
sparse mechanisms: steps are taken in float64 by another check, and in bfloat16 by test_precision;
so many tokens show what a mechanism that chooses some does with the rest."""
GENERATED = ("softmax_flex",)
"""Mechanisms whose calls compile a kernel: of their claims, the slow tests test all but one."""


def is_ours(form):
    """An adapter's package answers for itself; what it claims is compared with what there is."""
    return not set(form.can.requires) & set(EXTRAS)


def cases_of(form, *, needs_card=False):
    """Pairs of a check and a case that a form is put through.

    States, steps and masks around a runtime's operator are ours.
    """
    all_claims = is_ours(form) or form.can.recurrent
    return [
        (check, case)
        for check, case in checks_for(form)
        if check.needs_card == needs_card and (all_claims or check.claim == "forms")
    ]


def is_quick(form, check, case):
    """True for what `make test` runs."""
    if form.name in FIRST:
        return True
    if form.name in GENERATED:
        return check.claim == "reference"
    if check.claim in SLOW_CLAIMS:
        return case in CHEAP_CASES.get(check.name, ())
    is_sparse = attentions.attention_class(form.name).family == "sparse"
    return is_sparse or case not in SLOW_CASES.get(check.name, ())


def quick_cases(form):
    return [pair for pair in cases_of(form) if is_quick(form, *pair)]


def slow_cases(form):
    return [pair for pair in cases_of(form) if not is_quick(form, *pair)]


def with_any(cases, forms=FORMS):
    """The forms for which there are cases."""
    return pytest.mark.parametrize("form", [f for f in forms if cases(f)], ids=lambda form: form.id)


def keeps(form, cases):
    """Run all cases, and raise all that they find; skip where none can be tested."""
    untestable, found = [], []
    for check, case in cases:
        try:
            check(form, case)
        except Untestable as why:
            untestable.append(str(why))
        except Exception as error:
            error.add_note(f"{check.claim}: by {check.name} of {form.id} with {case}")
            found.append(error)
    if found:
        raise ExceptionGroup(f"{form.id} does not keep what it claims", found)
    if len(untestable) == len(cases):
        pytest.skip(untestable[0])
