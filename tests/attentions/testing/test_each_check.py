"""Each check alone finds lies that it is there for, and says so, whatever its neighbours find."""

from typing import Any

import pytest
import torch
from torch import nn

import attentions
from attentions import Gate
from attentions.testing.check import Untestable
from attentions.testing.forms import LONG, forms_of
from attentions.testing.suite import CHECKS
from tests.attentions.testing.lies import sends, spoilt, spoilt_steps
from tests.attentions.testing.lies_to_checks import LIES

SOFTMAX: Any = attentions.attention_class("softmax_explicit")
LINEAR: Any = attentions.attention_class("linear_unnormalised")
GLA: Any = attentions.attention_class("gla")


def findings(name, check):
    """Words of one check about each form and case in which it fails."""
    for form in forms_of(name):
        for one in CHECKS:
            if one.name == check and one.is_for(form):
                for case in one.cases:
                    try:
                        one(form, case)
                    except Untestable:
                        continue
                    except Exception as error:
                        yield str(error)


def assert_found(name, check, words):
    said = []
    for finding in findings(name, check):
        said.append(finding)
        if words in finding:
            return
    raise AssertionError(f"{check} says {said}, not {words!r}")


# Members of softmax attention.


def built(change):
    """Members of a mechanism to which something is done when it is built."""

    def __init__(self, geometry):
        SOFTMAX.__init__(self, geometry)
        change(self)

    return {"__init__": __init__}


def makes_no_value(module):
    module.made, module.unused = id(module), nn.Parameter(torch.zeros(1))


def refuses_a_width(module):
    if module.geometry.head_dim == 5:
        raise ValueError("This cannot be done.")


def takes_no_state(module):
    module.init_state = lambda *_, **__: None


def takes_any_form(self, geometry):
    nn.Module.__init__(self)
    self.geometry = geometry


def of_the_first_head(self, q, k, v, *, key_mask=None, mask=None):
    first = mask[:, :1] if mask is not None and mask.dim() == 4 else mask
    return SOFTMAX.forward(self, q, k, v, key_mask=key_mask, mask=first)


def refuses_nothing(self, q, k, v, *, key_mask=None, mask=None):
    return q[..., : v.shape[-1]]


def half_of(formula):
    return {formula: lambda self, shape: getattr(SOFTMAX, formula)(self, shape) // 2}


def by_a_copy(c):
    return c.out if c.module.made == id(c.module) else 2 * c.out


UNUSED = built(makes_no_value) | {"forward": spoilt("softmax_explicit", by_a_copy)}
NO_REFUSAL = {"forward": refuses_nothing, "_check_inputs": lambda *_: None}


# Steps of a recurrence, and gates.


def off_at(place, lengths=lambda length: True):
    """Steps that are off after so many tokens, in parts of such lengths."""

    def spoil(before, out, *_):
        return 1.01 * out if before == place and lengths(out.shape[-2]) else out

    return spoilt_steps(spoil)


def off_if(where):
    """Steps that are off for such keys and geometries."""
    return spoilt_steps(lambda _, out, k, geometry: 1.01 * out if where(k, geometry) else out)


def writes_into_later_keys(place, out, k, _):
    if place > 20:
        k.add_(1.0)
    return out


def in_place(self, q, k, v, state):
    out, after = LINEAR.step(self, q, k, v, state)
    if q.shape[-2] > 1:
        after = after._replace(context=state.context.copy_(after.context))
    return out, after


def init_in_the_module(self, batch_size, **kinds):
    self.sums = LINEAR.init_state(self, batch_size, **kinds)
    return self.sums


def step_in_the_module(self, q, k, v, state):
    if state.context.eq(0).all():  # a prompt begins
        self.sums = state
    out, after = LINEAR.step(self, q, k, v, self.sums)
    self.sums = after
    return out, after


OFF_LATER = spoilt_steps(lambda before, out, *_: 1.01 * out if before else out)
IN_THE_MODULE = {"step": step_in_the_module, "init_state": init_in_the_module}


def gated(change):
    """A forward pass of GLA that gets other gates than were given."""

    def forward(self, q, k, v, *, log_decay=None, key_mask=None):
        other = None if log_decay is None else change(log_decay)
        return GLA.forward(self, q, k, v, log_decay=other, key_mask=key_mask)

    return {"forward": forward}


def hides_keys_alone(self, q, k, v, *, log_decay=None, key_mask=None):
    if key_mask is not None:
        k, v = (x * key_mask[:, None, :, None] for x in (k, v))
    return GLA.forward(self, q, k, v, log_decay=log_decay)


def sees_padding(self, q, k, v, state, *, key_mask=None):
    return SOFTMAX.step(self, q, k, v, state)


def sees_its_neighbour(self, *inputs, cu_seqlens=None, **masks):
    return SOFTMAX.__call__(self, *inputs, **masks)


def forgets_gates(self, q, k, v, state, *, log_decay=None):
    return GLA.step(self, q, k, v, state, log_decay=None if q.shape[-2] == 1 else log_decay)


STEPS = "steps_equal_the_causal_forward_however_the_prompt_is_split"
CHUNKED = "a_prefill_in_chunks_gives_what_one_pass_gives"
ONE_BY_ONE = "token_by_token_equals_the_causal_forward"
SEEDS = "seeds_are_left_to_the_caller"
FLOPS = "flops_are_what_is_counted_and_what_slow_forms_need"
HAS = "claims_are_of_what_there_is"
TAKES = "forward_takes_the_claimed_masks_and_gates_and_no_others"
NOT_EXACT = "a_mechanism_that_is_not_exact_is_another_function"
REFERENCE = "outputs_and_gradients_equal_the_reference_in_float64"
Kind = tuple[str, dict[str, Any], dict[str, Any]]
"""A sound mechanism, and what its child claims and has instead."""
MEMBERS: list[tuple[str, str, Kind]] = [
    (check, words, ("softmax_explicit", {}, members))
    for check, words, members in [
        (REFERENCE, "reference calls forward", {"reference": lambda self, *qkv: self(*qkv)}),
        (SEEDS, "another seed is lost when it is built", built(lambda _: torch.manual_seed(0))),
        (FLOPS, "2 FLOPs per multiply-add", half_of("flops")),
        (FLOPS, "let executed_flops(shape) return that", half_of("flops")),
        (FLOPS, "decode_flops(shape) is to return", half_of("decode_flops")),
        ("a_dense_mask_hides_pairs_one_by_one", "of query", {"forward": of_the_first_head}),
        ("any_shape_gives_what_the_slow_form_gives", "naming a size", built(refuses_a_width)),
        (
            "padding_on_the_left_or_on_the_right_changes_nothing",
            "padded on the left",
            {"step": sees_padding},
        ),
        (
            "sequences_in_one_row_give_what_each_gives_alone",
            "tokens 1 to 40 of a row of",
            {"__call__": sees_its_neighbour},
        ),
        ("a_copy_is_as_good_as_the_original", "a copy gives another output", UNUSED),
        ("the_state_dict_carries_everything_over", "other weights give the same output", UNUSED),
        ("a_causal_form_refuses_more_keys_than_queries", "is not refused", NO_REFUSAL),
        ("a_mask_of_another_shape_or_dtype_is_refused", "is not refused", NO_REFUSAL),
    ]
]
CLAIMED: list[tuple[str, str, Kind]] = [
    (check, words, (sound, claims, {}))
    for check, words, sound, claims in [
        (HAS, "scopes has", "mla", {"scopes": ("core", "layer")}),
        (HAS, "memory_layout is", "softmax_explicit", {"memory_layout": "nbhd"}),
        (HAS, "dtypes has", "softmax_explicit", {"dtypes": ("float32", "float8")}),
        (HAS, "exports has", "softmax_explicit", {"exports": frozenset({"both"})}),
        (HAS, "recurrent is", "linear", {"causal": False, "exports": frozenset()}),
        (TAKES, "claimed are", "softmax_explicit", {"gates": {"beta": Gate("bhn")}}),
        (TAKES, "claimed are", "softmax_explicit", {"masks": frozenset({"padding"})}),
        (NOT_EXACT, "claim exact", "softmax_explicit", {"exact": False}),
        (
            "an_exact_mechanism_stays_so_where_others_part",
            "700 tokens",
            "sliding_window",
            {"exact": True},
        ),
        (
            "heads_are_independent_exactly_if_claimed",
            "heads are independent",
            "softmax_explicit",
            {"heads_independent": False},
        ),
        (
            "order_matters_to_a_mechanism_that_is_not_position_free",
            "claim position_free",
            "softmax_explicit",
            {"position_free": False},
        ),
    ]
]
BOTH: list[tuple[str, str, Kind]] = [
    (check, "is not refused", ("softmax_explicit", claims, NO_REFUSAL | members))
    for check, claims, members in [
        ("a_mechanism_without_cross_attention_refuses_other_lengths", {"cross": False}, {}),
        ("a_mechanism_on_a_grid_refuses_another_number_of_tokens", {"needs_grid": True}, {}),
        (
            "a_mechanism_without_a_recurrent_form_says_so",
            {"recurrent": False},
            built(takes_no_state),
        ),
        (
            "a_form_that_is_not_claimed_cannot_be_built",
            {"causal": False, "recurrent": False, "exports": frozenset()},
            {"__init__": takes_any_form},
        ),
    ]
]
RECURRENT: list[tuple[str, str, Kind]] = [
    (check, words, ("linear_unnormalised", {}, members))
    for check, words, members in [
        (
            STEPS,
            "in torch.bfloat16 give torch.float32",
            spoilt_steps(lambda _, out, *__: out.float()),
        ),
        (STEPS, "a prompt split as [300]", off_at(0, lambda length: length == LONG)),
        (STEPS, "a prompt split as [1, 299]", off_at(1, lambda length: length > 1)),
        (STEPS, "a prompt split as [140, 1, 1, 158]", off_at(142, lambda length: length > 1)),
        (STEPS, "a prompt split as [297, 1, 1, 1]", off_at(299)),
        (STEPS, "a prompt split as [100, 128, 72]", off_at(228, lambda length: length > 1)),
        (STEPS, "[140, 1, 1, 158] in float64", off_if(lambda k, _: k.dtype == torch.float64)),
        (STEPS, "a prompt split", off_if(lambda k, _: len(k) > 2)),
        (ONE_BY_ONE, "the output of tokens", off_at(64)),
        (ONE_BY_ONE, "the output of tokens", off_if(lambda k, _: len(k) == 1)),
        (ONE_BY_ONE, "modified its tokens", spoilt_steps(writes_into_later_keys)),
        (ONE_BY_ONE, "taken again gives another", {"step": in_place}),
        (ONE_BY_ONE, "taken again gives another", IN_THE_MODULE),
        (CHUNKED, "a prefill in parts of [1, 130] tokens", OFF_LATER),
        ("a_prefix_is_continued_twice", "continuation 0 of a prefix of 1 tokens", IN_THE_MODULE),
        ("drafted_tokens_are_taken_back", "after 1 tokens, 1 drafted ones", IN_THE_MODULE),
        (
            "a_row_alone_gives_what_it_gives_among_others",
            "row 0 among 2",
            off_if(lambda k, _: len(k) == 1),
        ),
        ("tokens_served_one_by_one_give_what_is_trained", "tokens one by one", off_at(64)),
        (
            "steps_take_shared_heads_of_keys",
            "of steps with shared heads",
            off_if(lambda _, geometry: geometry.num_heads == 4),
        ),
    ]
]
GATED: list[tuple[str, str, Kind]] = [
    (check, words, ("gla", {}, members))
    for check, words, members in [
        ("each_gate_is_heeded", "log_decay changes nothing", gated(lambda gate: None)),
        (
            "gated_outputs_and_gradients_equal_the_reference",
            "",  # it has no gradient at all
            gated(lambda gate: gate.detach()),
        ),
        (
            "later_gates_change_no_bit_of_the_past",
            "gates after 63",
            gated(lambda gate: gate + 1e-6 * gate.mean(-2, keepdim=True)),
        ),
        (
            "gates_of_hidden_tokens_do_nothing",
            "with gates and hidden tokens",
            {"forward": hides_keys_alone},
        ),
        (
            CHUNKED,
            "a prefill in parts",
            {"step": forgets_gates},
        ),
    ]
]
OUTPUTS: list[tuple[str, str, Kind]] = [
    (check, words, ("softmax_explicit", {}, {"forward": spoilt("softmax_explicit", spoil)}))
    for check, lies in LIES.items()
    for words, spoil in lies
]


def adds_to_sinks(c):
    return sends(c.out, c.module.sinks, lambda _: torch.ones_like(c.module.sinks))


SINKS: Kind = ("softmax_sinks", {}, {"forward": spoilt("softmax_sinks", adds_to_sinks)})
EVERY = [*OUTPUTS, *MEMBERS, *CLAIMED, *BOTH, *RECURRENT, *GATED]
EVERY += [(REFERENCE, "gradient 3 of the output", SINKS)]


@pytest.mark.parametrize(("check", "words", "kind"), EVERY, ids=lambda x: x if str(x) == x else "")
def test_a_check_finds_what_is_wrong_in_one_place(register, check, words, kind):
    sound, claims, members = kind
    assert_found(register(sound, claims, **members), check, words)


def test_every_check_has_a_lie_that_it_finds():
    assert {check.name for check in CHECKS if not check.needs_card} == {name for name, *_ in EVERY}
