"""Lies that show in one place only: a border of chunks, a narrow dtype, a gradient, a second call.

Each mechanism here keeps all that it claims but for one thing, and the suite says which.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import attentions
from attentions import registry
from bench.catalogue.badges import BadgeStatus
from bench.conformance.run import badge_for

Change = Callable[[Tensor], Tensor]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Sends(torch.autograd.Function):
    """The output as it is; the backward pass changes its gradient, and sends one to an input."""

    @staticmethod
    def forward(ctx: Any, out: Tensor, x: Tensor, change: Change, sent: Change) -> Tensor:
        ctx.change, ctx.sent = change, sent
        return out.view_as(out)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        sent = ctx.sent(gradient)
        return ctx.change(gradient), sent, None, None


def same(x: Tensor) -> Tensor:
    return x


def sends(out: Tensor, x: Tensor, sent: Change) -> Tensor:
    return Sends.apply(out, x, same, sent)  # type: ignore[no-any-return]


def changes(out: Tensor, x: Tensor, change: Change) -> Tensor:
    return Sends.apply(out, x, change, lambda _: torch.zeros_like(x))  # type: ignore[no-any-return]


def only_at(i: int, x: Tensor, dim: int) -> Tensor:
    sizes = [1] * x.dim()
    sizes[dim] = x.shape[dim]
    return (torch.arange(x.shape[dim]) == i).to(x.dtype).view(sizes)


# What is spoilt: (mechanism, output, q, k, v, masks) -> another output.


def other_strides_are_wrong_in_bfloat16(_, out, q, k, v, masks):
    return out * 1.05 if out.dtype == torch.bfloat16 and not q.is_contiguous() else out


def backward_writes_into_the_keys(_, out, q, k, v, masks):
    def write(gradient):
        with torch.no_grad():
            k.mul_(1.000001)
        return gradient

    return changes(out, q, write)


def every_call_gives_the_same_buffer(self, out, q, k, v, masks):
    if torch.is_grad_enabled() and out.requires_grad:
        return out
    kept = self.__dict__.setdefault("kept", torch.empty_like(out))
    return kept.copy_(out) if kept.shape == out.shape and kept.dtype == out.dtype else out


def wide_heads_are_wrong(_, out, q, k, v, masks):
    return out * 1.001 if q.shape[-1] > 64 else out


def fewer_tokens_are_wrong(self, out, q, k, v, masks):
    is_less = k.shape[-2] == q.shape[-2] < self.geometry.seq_len
    return out * 1.001 if is_less and not masks else out


def the_last_row_sees_the_first(_, out, q, k, v, masks):
    return out + 1e-3 * only_at(len(out) - 1, out, 0) * out[:1]


def rows_share_gradients(_, out, q, k, v, masks):
    return sends(out, v, lambda g: 1e-3 * g.mean(0, keepdim=True).expand_as(g).contiguous())


def the_first_head_sees_the_last(_, out, q, k, v, masks):
    return out + 1e-3 * only_at(0, out, 1) * out[:, -1:]


def causal_heads_are_mixed(self, out, q, k, v, masks):
    return out + 1e-3 * out.mean(1, keepdim=True) if self.geometry.causal else out


def one_token_sees_the_next_chunk(self, out, q, k, v, masks):
    if not self.geometry.causal or v.shape[-2] <= 64:
        return out
    return out + 1e-6 * only_at(63, out, -2) * v[..., 64:65, :]


def the_next_chunk_gets_a_gradient(self, out, q, k, v, masks):
    if not self.geometry.causal or v.shape[-2] <= 64:
        return out
    return sends(out, v, lambda g: 1e-6 * only_at(64, g, -2) * g[..., 63:64, :])


def one_query_and_many_keys_are_wrong(_, out, q, k, v, masks):
    return out * 1.01 if q.shape[-2] == 1 < k.shape[-2] and not masks else out


def cross_gradients_are_wrong(_, out, q, k, v, masks):
    return sends(out, k, lambda _: 1e-3 * k.detach()) if q.shape[-2] != k.shape[-2] else out


def a_hidden_first_key_is_half_seen(_, out, q, k, v, masks):
    mask = masks.get("key_mask")
    return out if mask is None else torch.where(mask[:, :1, None, None], out, out * 1.01)


def hidden_values_get_a_gradient(_, out, q, k, v, masks):
    mask = masks.get("key_mask")
    return out if mask is None else sends(out, v, lambda _: ~mask[:, None, :, None] * v.detach())


def the_mask_is_written_into(_, out, q, k, v, masks):
    if "key_mask" in masks:
        masks["key_mask"][:, 0] = True
    return out


def another_gradient_in_float32(_, out, q, k, v, masks):
    return sends(out, k, lambda _: 0.01 * torch.ones_like(k)) if k.dtype == torch.float32 else out


def another_gradient_of_long_keys(_, out, q, k, v, masks):
    return sends(out, k, lambda _: 0.01 * torch.ones_like(k)) if k.shape[-2] > 128 else out


def a_gradient_is_wrong_if_its_cotangent_has_strides(_, out, q, k, v, masks):
    return changes(out, q, lambda g: g if g.is_contiguous() else 1.1 * g)


def a_gradient_of_keys_alone_is_wrong(_, out, q, k, v, masks):
    is_alone = k.requires_grad and not q.requires_grad
    return changes(out, k, lambda g: 1.1 * g) if is_alone else out


def long_float32_is_wrong(_, out, q, k, v, masks):
    return out * 1.001 if out.dtype == torch.float32 and k.shape[-2] > 64 else out


def a_call_seeds_again(_, out, q, k, v, masks):
    torch.manual_seed(0)
    return out


def autocast_gives_no_gradient(_, out, q, k, v, masks):
    return changes(out, q, lambda g: 0 * g) if torch.is_autocast_enabled("cpu") else out


def autocast_refuses_what_is_half_already(_, out, q, k, v, masks):
    if torch.is_autocast_enabled("cpu") and q.dtype == torch.bfloat16:
        raise RuntimeError("expected scalar type Float but found BFloat16")
    return out


SPOILT = [
    ("shape", other_strides_are_wrong_in_bfloat16),
    ("shape", backward_writes_into_the_keys),
    ("shape", every_call_gives_the_same_buffer),
    ("any_shape", wide_heads_are_wrong),
    ("any_shape", fewer_tokens_are_wrong),
    ("batch", the_last_row_sees_the_first),
    ("batch", rows_share_gradients),
    ("heads", the_first_head_sees_the_last),
    ("heads", causal_heads_are_mixed),
    ("causal", one_token_sees_the_next_chunk),
    ("causal", the_next_chunk_gets_a_gradient),
    ("cross", one_query_and_many_keys_are_wrong),
    ("cross", cross_gradients_are_wrong),
    ("padding", a_hidden_first_key_is_half_seen),
    ("padding", hidden_values_get_a_gradient),
    ("padding", the_mask_is_written_into),
    ("precision", another_gradient_in_float32),
    ("precision", long_float32_is_wrong),
    ("gradients", another_gradient_of_long_keys),
    ("gradients", a_gradient_is_wrong_if_its_cotangent_has_strides),
    ("gradients", a_gradient_of_keys_alone_is_wrong),
    ("deterministic", a_call_seeds_again),
    ("autocast", autocast_gives_no_gradient),
    ("autocast", autocast_refuses_what_is_half_already),
]


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Enter a child of a sound mechanism, with other members and claims, for one test."""
    attentions.attention_names()
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))

    def enter(sound: str, claims: dict[str, Any] | None = None, **members: Any) -> str:
        base = attentions.attention_class(sound)
        can = replace(base.capabilities, **(claims or {}))
        cls = type("Liar", (base,), members)
        registry.register_attention("liar", title="T", source="S", capabilities=can)(cls)
        return "liar"

    return enter


def spoilt(sound: str, spoil: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """`forward` of a mechanism whose output is spoilt."""
    base: Any = attentions.attention_class(sound)

    def forward(self: Any, q: Tensor, k: Tensor, v: Tensor, **masks: Any) -> Tensor:
        return spoil(self, base.forward(self, q, k, v, **masks), q, k, v, masks)

    forward.__signature__ = inspect.signature(base.forward)  # type: ignore[attr-defined]
    return forward


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
    """Members of a mechanism whose step is wrong at some places, (place, queries) -> whether."""
    base: Any = attentions.attention_class("linear_unnormalised")

    def init_state(self: Any, batch_size: int, **kinds: Any) -> Any:
        return 0, base.init_state(self, batch_size, **kinds)

    def step(self: Any, q: Tensor, k: Tensor, v: Tensor, state: Any) -> Any:
        place, sums = state
        out, sums = base.step(self, q, k, v, sums)
        return 1.01 * out if wrong(place, q) else out, (place + q.shape[-2], sums)

    return {"init_state": init_state, "step": step}


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


@pytest.mark.parametrize("sound", ["softmax_explicit", "linear_unnormalised", "gla"])
@pytest.mark.parametrize(
    "claim", ["batch", "heads", "causal", "padding", "recurrent", "gradients", "flops"]
)
def test_a_sound_mechanism_passes(register: Callable[..., str], sound: str, claim: str) -> None:
    badge = badge_for(register(sound), claim)
    assert badge.status is BadgeStatus.PASSED, badge.reason
