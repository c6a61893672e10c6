"""The suite finds what is wrong: one mechanism for each claim that breaks it, and no other way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import attentions
from attentions import Capabilities, Gate, registry
from attentions.base import Mechanism
from bench.core.badges import BadgeStatus
from bench.studies.conformance.check import Untestable
from bench.studies.conformance.run import badge_for, badges_of
from bench.studies.conformance.suite import CHECKS, CLAIMS

Spoil = Callable[[Any, Tensor, Tensor, Tensor, Tensor], Tensor]
"""(mechanism, output, q, k, v) -> another output."""


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Register a class for one test, as a plug-in would."""
    attentions.attention_names()
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))

    def register(cls: type[Mechanism], **claims: Any) -> str:
        can = Capabilities(
            **(dict.fromkeys(("causal", "cross", "exact", "recurrent"), True) | claims)
        )
        registry.register_attention("spoilt", title="T", source="S", capabilities=can)(cls)
        return "spoilt"

    return register


def spoilt(spoil: Spoil, **members: Any) -> type[Mechanism]:
    """Softmax attention written out, whose output is spoilt."""
    sound: Any = attentions.attention_class("softmax_explicit")

    def forward(self: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return spoil(self, sound.forward(self, q, k, v), q, k, v)

    return type("Spoilt", (sound,), {"forward": forward, **members})


def narrower(_: Any, out: Tensor, *__: Tensor) -> Tensor:
    return out.bfloat16().float() if out.dtype == torch.float32 else out


def overwritten_input(_: Any, out: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    with torch.no_grad():
        q.zero_()
    return out


def wrong_at_prime_lengths(_: Any, out: Tensor, *__: Tensor) -> Tensor:
    return out * 1.001 if out.shape[-2] == 61 else out


def knows_its_batch_mates(_: Any, out: Tensor, *__: Tensor) -> Tensor:
    return out + 1e-3 * out.mean(0)


def knows_other_heads(_: Any, out: Tensor, *__: Tensor) -> Tensor:
    return out + 1e-3 * out.mean(1, keepdim=True)


def knows_places(_: Any, out: Tensor, *__: Tensor) -> Tensor:
    return out * torch.linspace(1, 1.1, out.shape[-2], dtype=out.dtype)[:, None]


def sees_the_future(_: Any, out: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return out + 1e-6 * v.mean(-2, keepdim=True)


def forgets_extra_keys(self: Any, out: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return out * 0.5 if k.shape[-2] > q.shape[-2] else out


def slightly_off(_: Any, out: Tensor, *__: Tensor) -> Tensor:
    return out * 1.0001


def holds_half_constant(_: Any, out: Tensor, *__: Tensor) -> Tensor:
    return 0.5 * out + 0.5 * out.detach()


def divides_by_a_norm(_: Any, out: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    norm = q.norm(dim=-1, keepdim=True)
    return out * (norm / norm)


def refuses_autocast(_: Any, out: Tensor, *__: Tensor) -> Tensor:
    if torch.is_autocast_enabled("cpu"):
        raise RuntimeError("expected scalar type Float but found BFloat16")
    return out


def rolls_dice(_: Any, out: Tensor, *__: Tensor) -> Tensor:
    return out + 1e-3 * torch.rand_like(out)


def has_a_secret(self: Any, out: Tensor, *__: Tensor) -> Tensor:
    if not hasattr(self, "secret"):
        self.secret = torch.rand(1).item()
    return out + self.secret


def looks_at_a_number(_: Any, out: Tensor, *__: Tensor) -> Tensor:
    return out if float(out.sum()) < 1e30 else -out


def keeps_a_tensor(self: Any, out: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    if not hasattr(self, "kept"):
        self.kept = torch.ones((), dtype=out.dtype)
    return out * self.kept


def breaks_the_graph(_: Any, out: Tensor, *__: Tensor) -> Tensor:
    torch._dynamo.graph_break()
    return out


def counts_its_chunks(_: Any, out: Tensor, *__: Tensor) -> Tensor:
    return torch.cat([part.clone() for part in out.split(1, dim=-2)], dim=-2)


def sound(_: Any, out: Tensor, *__: Tensor) -> Tensor:
    return out


BOTH = frozenset({"bidirectional", "causal"})
SPOILT: list[tuple[str, Spoil, dict[str, Any], dict[str, Any]]] = [
    ("shape", lambda _, out, *__: out.double(), {}, {}),
    ("shape", overwritten_input, {}, {}),
    ("any_shape", wrong_at_prime_lengths, {}, {}),
    ("batch", knows_its_batch_mates, {}, {}),
    ("heads", knows_other_heads, {}, {}),
    ("heads", sound, {"heads_independent": False}, {}),
    ("order", knows_places, {}, {}),
    ("order", sound, {"position_free": False}, {}),
    ("forms", sound, {"gates": {"beta": Gate("bhn")}}, {}),
    ("forms", sound, {"masks": frozenset({"padding"})}, {}),
    ("causal", sees_the_future, {}, {}),
    ("cross", forgets_extra_keys, {}, {}),
    ("exact", slightly_off, {}, {}),
    ("exact", sound, {"exact": False}, {}),
    ("reference", slightly_off, {}, {}),
    ("gradients", holds_half_constant, {}, {}),
    ("precision", narrower, {}, {}),
    ("finite", divides_by_a_norm, {}, {}),
    ("autocast", refuses_autocast, {}, {}),
    ("deterministic", rolls_dice, {}, {}),
    ("state_dict", has_a_secret, {}, {}),
    ("meta", looks_at_a_number, {}, {}),
    ("inference", keeps_a_tensor, {}, {}),
    ("compile", breaks_the_graph, {}, {}),
    ("export", counts_its_chunks, {"exports": BOTH}, {}),
    ("flops", sound, {}, {"executed_flops": lambda self, shape: 1}),
]


@pytest.mark.parametrize(
    ("claim", "spoil", "claims", "members"),
    SPOILT,
    ids=[f"{c}-{s.__name__}" for c, s, *_ in SPOILT],
)
def test_a_claim_that_does_not_hold_fails(
    registered: Callable[..., str],
    claim: str,
    spoil: Spoil,
    claims: dict[str, Any],
    members: dict[str, Any],
) -> None:
    badge = badge_for(registered(spoilt(spoil, **members), **claims), claim)
    assert badge.status is BadgeStatus.FAILED
    assert badge.reason


def test_a_leak_is_called_one_with_its_length_and_dtype(registered: Callable[..., str]) -> None:
    badge = badge_for(registered(spoilt(sees_the_future)), "causal")
    assert "leaks the future: of 12 tokens in float32, those after 0 change" in str(badge.reason)


def test_masks_that_are_not_heeded_fail(registered: Callable[..., str]) -> None:
    sound: Any = attentions.attention_class("softmax_explicit")

    class Heedless(sound):  # type: ignore[misc]
        def forward(self, q, k, v, *, key_mask=None, mask=None):  # type: ignore[no-untyped-def]
            return sound.forward(self, q, k, v)

    name = registered(Heedless, masks=frozenset({"padding", "dense"}))
    assert badge_for(name, "padding").status is BadgeStatus.FAILED
    assert badge_for(name, "dense").status is BadgeStatus.FAILED
    assert badge_for(name, "forms").status is BadgeStatus.PASSED


def test_steps_that_differ_from_the_forward_pass_fail(registered: Callable[..., str]) -> None:
    sound: Any = attentions.attention_class("linear_unnormalised")

    class Drifting(sound):  # type: ignore[misc]
        def step(self, q, k, v, state):  # type: ignore[no-untyped-def]
            out, state = sound.step(self, q, k, v, state)
            return 1.001 * out, state

    name = registered(Drifting, exact=False)
    assert badge_for(name, "recurrent").status is BadgeStatus.FAILED


def test_a_sound_mechanism_earns_what_it_claims_and_no_more(
    registered: Callable[..., str],
) -> None:
    badges = {b.claim: b for b in badges_of(registered(spoilt(sound), exports=BOTH), "hash")}
    assert list(badges) == list(CLAIMS)
    status = {claim: badge.status for claim, badge in badges.items()}
    assert {c for c, s in status.items() if s is BadgeStatus.FAILED} == set()
    not_claimed = {c for c, s in status.items() if s is BadgeStatus.NOT_CLAIMED}
    assert not_claimed == {"padding", "dense"}
    assert all(badge.source == "hash" and badge.tested_at for badge in badges.values())
    assert all(b.num_checks for b in badges.values() if b.status is BadgeStatus.PASSED)


def test_a_missing_package_is_no_failure(registered: Callable[..., str]) -> None:
    def __init__(self: Any, geometry: Any) -> None:
        raise ImportError("spoilt needs flash-attn: pip install attnbench[flash]")

    badge = badge_for(registered(spoilt(sound, __init__=__init__)), "shape")
    assert badge.status is BadgeStatus.SKIPPED
    assert "flash-attn" in (badge.reason or "")


def test_a_mechanism_that_ends_the_process_has_failed(registered: Callable[..., str]) -> None:
    def leaves(*_: Any) -> Tensor:
        raise SystemExit(0)

    badge = badge_for(registered(spoilt(leaves)), "shape")
    assert badge.status is BadgeStatus.FAILED and "SystemExit: 0" in (badge.reason or "")


def test_another_device_or_dtype_is_no_failure(registered: Callable[..., str]) -> None:
    name = registered(spoilt(sound), devices=("cuda",))
    assert badge_for(name, "shape").status is BadgeStatus.SKIPPED
    name = registered(spoilt(sound), dtypes=("float32",), backward_devices=("cuda",))
    assert badge_for(name, "precision").status is BadgeStatus.PASSED
    assert badge_for(name, "gradients").status is BadgeStatus.SKIPPED


def test_every_claim_has_a_check_and_every_check_a_claim() -> None:
    assert {check.claim for check in CHECKS} == set(CLAIMS)
    assert all(check.run.__doc__ for check in CHECKS)


def test_what_cannot_be_tested_is_told_apart_from_what_is_broken() -> None:
    assert not issubclass(Untestable, AssertionError)
