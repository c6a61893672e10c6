"""Each check alone finds a lie that it is there for, and says so, whatever its neighbours find."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import attentions
from bench.studies.conformance.check import Broken
from bench.studies.conformance.forms import LONG, forms_of
from bench.studies.conformance.suite import CHECKS
from tests.bench.studies.conformance.lies import sends, spoilt, spoilt_steps
from tests.bench.studies.conformance.lies_to_checks import SPOILS


def findings(name: str, check: str) -> Iterator[str]:
    """What one check says of each form and case in which it fails."""
    for form in forms_of(name):
        for one in CHECKS:
            if one.name == check and one.is_for(form):
                for case in one.cases:
                    try:
                        one(form, case)
                    except Broken as broken:
                        yield str(broken)


def assert_found(name: str, check: str, words: str) -> None:
    said = []
    for finding in findings(name, check):
        said.append(finding)
        if words in finding:
            return
    raise AssertionError(f"{check} says {said}, not {words!r}")


@pytest.mark.parametrize(("check", "words", "spoil"), SPOILS)
def test_a_check_finds_what_is_wrong_in_one_place(
    register: Callable[..., str], check: str, words: str, spoil: Callable[..., Tensor]
) -> None:
    name = register("softmax_explicit", forward=spoilt("softmax_explicit", spoil))
    assert_found(name, check, words)


def test_a_gradient_of_a_learned_value_is_compared(register: Callable[..., str]) -> None:
    def spoil(self, out, *_):
        return sends(out, self.sinks, lambda _: torch.ones_like(self.sinks))

    name = register("softmax_sinks", forward=spoilt("softmax_sinks", spoil))
    check = "outputs_and_gradients_equal_the_reference_in_float64"
    assert_found(name, check, "gradient 3 of the output")


def in_float32(place: int, out: Tensor, *_: Tensor) -> Tensor:
    return out.float()


def after(start: int, lengths: Callable[[int], bool]) -> Callable[..., Tensor]:
    def spoil(place: int, out: Tensor, *_: Tensor) -> Tensor:
        return 1.01 * out if place == start and lengths(out.shape[-2]) else out

    return spoil


def writes_into_later_keys(place: int, out: Tensor, k: Tensor, _: Any) -> Tensor:
    if place > 20:
        k.add_(1.0)
    return out


def four_heads(place: int, out: Tensor, k: Tensor, geometry: Any) -> Tensor:
    return 1.01 * out if geometry.num_heads == 4 else out


@pytest.mark.parametrize(
    ("check", "words", "spoil"),
    [
        ("steps_equal_the_causal_forward_however_the_prompt_is_split", words, spoil)
        for words, spoil in [
            ("steps in torch.bfloat16 give torch.float32", in_float32),
            ("a prompt split as [300]", after(0, lambda length: length == LONG)),
            ("a prompt split as [1, 299]", after(1, lambda length: length > 1)),
            ("a prompt split as [140, 1, 1, 158]", after(142, lambda length: length > 1)),
            ("a prompt split as [297, 1, 1, 1]", after(299, lambda length: length == 1)),
            ("a prompt split as [100, 128, 72]", after(228, lambda length: length > 1)),
        ]
    ]
    + [
        ("token_by_token_equals_the_causal_forward", "modified its tokens", writes_into_later_keys),
        ("steps_take_shared_heads_of_keys", "of steps with shared heads", four_heads),
    ],
)
def test_a_check_finds_what_is_wrong_in_one_step(
    register: Callable[..., str], check: str, words: str, spoil: Callable[..., Tensor]
) -> None:
    assert_found(register("linear_unnormalised", **spoilt_steps(spoil)), check, words)


def test_gates_of_hidden_tokens_are_looked_at(register: Callable[..., str]) -> None:
    base: Any = attentions.attention_class("gla")

    def forward(self, q, k, v, *, log_decay=None, key_mask=None):
        if key_mask is not None:
            k, v = (x * key_mask[:, None, :, None] for x in (k, v))
        return base.forward(self, q, k, v, log_decay=log_decay)

    name = register("gla", forward=forward)
    assert_found(name, "gates_of_hidden_tokens_do_nothing", "with gates and hidden tokens")


def test_gates_of_single_steps_are_looked_at(register: Callable[..., str]) -> None:
    base: Any = attentions.attention_class("gla")

    def step(self, q, k, v, state, *, log_decay=None):
        given = None if q.shape[-2] == 1 else log_decay
        return base.step(self, q, k, v, state, log_decay=given)

    name = register("gla", step=step)
    assert_found(name, "gated_steps_equal_the_causal_forward", "the output of gated steps")


def refuses_nothing(self: Any, q: Tensor, k: Tensor, v: Tensor, *, key_mask=None, mask=None):
    return q[..., : v.shape[-1]]


@pytest.mark.parametrize(
    ("check", "claims"),
    [
        ("a_causal_form_refuses_more_keys_than_queries", {}),
        ("a_mechanism_without_cross_attention_refuses_other_lengths", {"cross": False}),
        ("a_mechanism_on_a_grid_refuses_another_number_of_tokens", {"needs_grid": True}),
        ("a_mask_of_another_shape_or_dtype_is_refused", {}),
    ],
)
def test_what_refuses_nothing_is_found(
    register: Callable[..., str], check: str, claims: dict[str, Any]
) -> None:
    members = {"forward": refuses_nothing, "_check_inputs": lambda *_: None}
    assert_found(register("softmax_explicit", claims, **members), check, "is not refused")


def test_a_form_that_is_built_without_being_claimed_is_found(register: Callable[..., str]) -> None:
    def __init__(self: Any, geometry: Any) -> None:
        nn.Module.__init__(self)
        self.geometry = geometry

    claims = {"causal": False, "recurrent": False, "exports": frozenset()}
    name = register("softmax_explicit", claims, __init__=__init__)
    assert_found(name, "a_form_that_is_not_claimed_cannot_be_built", "is not refused")


def test_a_refusal_without_a_size_is_found(register: Callable[..., str]) -> None:
    base: Any = attentions.attention_class("softmax_explicit")

    def __init__(self: Any, geometry: Any) -> None:
        base.__init__(self, geometry)
        if geometry.head_dim == 5:
            raise ValueError("This cannot be done.")

    name = register("softmax_explicit", __init__=__init__)
    assert_found(name, "any_shape_gives_what_the_slow_form_gives", "without naming a size")


def test_a_copy_that_differs_and_a_value_that_is_not_used_are_found(
    register: Callable[..., str],
) -> None:
    base: Any = attentions.attention_class("softmax_explicit")

    def __init__(self: Any, geometry: Any) -> None:
        base.__init__(self, geometry)
        self.made, self.unused = id(self), nn.Parameter(torch.zeros(1))

    def spoil(self, out, *_):
        return out if self.made == id(self) else 2 * out

    forward = spoilt("softmax_explicit", spoil)
    name = register("softmax_explicit", forward=forward, __init__=__init__)
    assert_found(name, "a_copy_is_as_good_as_the_original", "a copy gives another output")
    words = "other weights give the same output"
    assert_found(name, "the_state_dict_carries_everything_over", words)
