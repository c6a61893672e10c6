"""Lies that show in one place only: a border of chunks, a narrow dtype, a gradient, a second call.

Each mechanism here keeps all that it claims but for one thing, and the suite says which.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import attentions
from bench.core.badges import BadgeStatus
from bench.studies.conformance.run import badge_for
from tests.bench.studies.conformance.lies import SPOILT, spoilt, spoilt_steps


def assert_fails(name: str, claim: str) -> None:
    badge = badge_for(name, claim)
    assert badge.status is BadgeStatus.FAILED, badge.reason
    assert badge.reason


@pytest.mark.parametrize(
    ("claim", "spoil"), SPOILT, ids=[f"{claim}-{spoil.__name__}" for claim, spoil in SPOILT]
)
def test_a_lie_that_shows_in_one_place_only_fails(
    register: Callable[..., str], claim: str, spoil: Callable[..., Tensor]
) -> None:
    assert_fails(register("softmax_explicit", forward=spoilt("softmax_explicit", spoil)), claim)


def counting(wrong: Callable[[int, Tensor], bool]) -> dict[str, Any]:
    """Members of a mechanism whose step is wrong at some places, (place, keys) -> whether."""

    def spoil(place: int, out: Tensor, k: Tensor, _: Any) -> Tensor:
        return 1.01 * out if wrong(place, k) else out

    return spoilt_steps(spoil)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda place, q: place == 64 and q.shape[-2] == 1,
        lambda place, q: len(q) == 1,
        lambda place, q: len(q) > 2,
        lambda place, q: q.dtype == torch.float64,
    ],
    ids=["65th-token", "batch-of-1", "batch-of-3", "float64"],
)
def test_steps_that_are_wrong_in_one_place_fail(
    register: Callable[..., str], wrong: Callable[[int, Tensor], bool]
) -> None:
    assert_fails(register("linear_unnormalised", **counting(wrong)), "recurrent")


def test_a_prompt_that_is_added_to_the_state_in_place_fails(
    register: Callable[..., str],
) -> None:
    base: Any = attentions.attention_class("linear_unnormalised")

    def step(self: Any, q: Tensor, k: Tensor, v: Tensor, state: Tensor) -> Any:
        out, after = base.step(self, q, k, v, state)
        return out, after if q.shape[-2] == 1 else state.copy_(after)

    assert_fails(register("linear_unnormalised", step=step), "recurrent")


def test_a_state_that_lies_in_the_module_fails(register: Callable[..., str]) -> None:
    base: Any = attentions.attention_class("linear_unnormalised")

    def init_state(self: Any, batch_size: int, **kinds: Any) -> Tensor:
        self.sums = base.init_state(self, batch_size, **kinds)
        return self.sums

    def step(self: Any, q: Tensor, k: Tensor, v: Tensor, state: Tensor) -> Any:
        if state.abs().sum() == 0:  # a prompt begins
            self.sums = state
        out, after = base.step(self, q, k, v, self.sums)
        self.sums = after.clone()
        return out, after

    assert_fails(register("linear_unnormalised", step=step, init_state=init_state), "recurrent")


def test_a_dense_mask_of_the_first_head_for_all_fails(register: Callable[..., str]) -> None:
    base: Any = attentions.attention_class("softmax_explicit")

    def forward(self, q, k, v, *, key_mask=None, mask=None):  # type: ignore[no-untyped-def]
        first = mask[:, :1] if mask is not None and mask.dim() == 4 else mask
        return base.forward(self, q, k, v, key_mask=key_mask, mask=first)

    assert_fails(register("softmax_explicit", forward=forward), "dense")


def test_a_window_that_claims_to_be_softmax_fails(register: Callable[..., str]) -> None:
    assert_fails(register("sliding_window", {"exact": True}), "exact")


def test_a_slow_form_that_is_the_fast_one_fails(register: Callable[..., str]) -> None:
    def reference(self: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return self(q, k, v)  # type: ignore[no-any-return]

    assert_fails(register("softmax_explicit", reference=reference), "reference")


def test_seeding_when_built_fails(register: Callable[..., str]) -> None:
    base: Any = attentions.attention_class("softmax_explicit")

    def __init__(self: Any, geometry: Any) -> None:
        base.__init__(self, geometry)
        torch.manual_seed(0)

    assert_fails(register("softmax_explicit", __init__=__init__), "deterministic")


@pytest.mark.parametrize("formula", ["flops", "decode_flops"])
def test_half_of_the_flops_fail(register: Callable[..., str], formula: str) -> None:
    base: Any = attentions.attention_class("softmax_explicit")

    def half(self: Any, shape: Any) -> int:
        return getattr(base, formula)(self, shape) // 2  # type: ignore[no-any-return]

    half.__name__ = formula
    assert_fails(register("softmax_explicit", **{formula: half}), "flops")


@pytest.mark.parametrize(
    ("sound", "claims"),
    [
        ("mla", {"scopes": ("core", "layer")}),
        ("softmax_explicit", {"memory_layout": "nbhd"}),
        ("softmax_explicit", {"dtypes": ("float32", "float8")}),
        ("softmax_explicit", {"exports": frozenset({"both"})}),
        ("linear", {"causal": False, "exports": frozenset()}),
    ],
    ids=["scopes", "memory_layout", "dtypes", "exports", "recurrent"],
)
def test_claims_of_what_there_is_not_fail(
    register: Callable[..., str], sound: str, claims: dict[str, Any]
) -> None:
    assert_fails(register(sound, claims), "forms")


def gated(change: Callable[[Tensor], Tensor | None]) -> Callable[..., Tensor]:
    """`forward` of GLA, which gets other gates than were given."""
    base: Any = attentions.attention_class("gla")

    def forward(self, q, k, v, *, log_decay=None, key_mask=None):  # type: ignore[no-untyped-def]
        given = None if log_decay is None else change(log_decay)
        return base.forward(self, q, k, v, log_decay=given, key_mask=key_mask)

    return forward


@pytest.mark.parametrize(
    ("claim", "change"),
    [
        ("forms", lambda gate: None),
        ("reference", lambda gate: gate.detach()),
        ("causal", lambda gate: gate + 1e-6 * gate.mean(-2, keepdim=True)),
    ],
    ids=["ignored", "without-gradient", "future"],
)
def test_gates_that_are_not_heeded_fail(
    register: Callable[..., str], claim: str, change: Callable[[Tensor], Tensor | None]
) -> None:
    assert_fails(register("gla", forward=gated(change)), claim)


def test_a_gated_mechanism_without_a_slow_form_is_not_testable(
    register: Callable[..., str],
) -> None:
    badge = badge_for(register("gla", reference=attentions.Attention.reference), "reference")
    assert badge.status is BadgeStatus.SKIPPED and "no slow form" in badge.reason


def test_steps_that_forget_their_gates_fail(register: Callable[..., str]) -> None:
    base: Any = attentions.attention_class("gla")

    def step(self, q, k, v, state, *, log_decay=None):  # type: ignore[no-untyped-def]
        return base.step(self, q, k, v, state)

    assert_fails(register("gla", step=step), "recurrent")
