"""A badge for each claim: passed, failed with a reason, not claimed or untestable."""

from typing import Any
from unittest.mock import Mock

import pytest

import attentions
from bench.core.proofs import BadgeStatus
from bench.studies.conformance import run
from bench.studies.conformance.check import Broken, Check, Untestable, always, require_refusal
from bench.studies.conformance.run import CHECKS, CLAIMS, badge_for, badges_of
from bench.studies.conformance.table import reasons
from tests.bench.studies.conformance.lies import spoilt

SOUND = {"forward": spoilt("softmax_explicit", lambda c: c.out)}


def test_a_claim_that_does_not_hold_fails_with_its_reason(register):
    def leaks(c):
        return c.out + 1e-6 * c.v.mean(-2, keepdim=True)

    badge = badge_for(
        register("softmax_explicit", forward=spoilt("softmax_explicit", leaks)), "causal"
    )
    assert badge.status is BadgeStatus.FAILED
    said = "liar-causal: the future changes no bit of the past: leaks the future: of 12 tokens in "
    assert str(badge.reason).startswith(f"{said}float32, those after 0 change")
    assert str(badge.reason).endswith(" more)")


def test_a_sound_mechanism_earns_what_it_claims_and_no_more(register):
    name = register("softmax_explicit", **SOUND)
    badges = {badge.claim: badge for badge in badges_of(name, "hash")}
    assert list(badges) == list(CLAIMS)
    assert not {BadgeStatus.FAILED, BadgeStatus.NOT_CLAIMED} & {b.status for b in badges.values()}
    assert all(badge.source == "hash" and badge.tested_at for badge in badges.values())
    assert all(b.num_checks for b in badges.values() if b.status is BadgeStatus.PASSED)


def test_what_is_not_claimed_earns_nothing(register):
    assert badge_for(register("linear"), "dense").status is BadgeStatus.NOT_CLAIMED


def test_what_cannot_be_tested_here_is_no_failure(register):
    def __init__(self, geometry):
        raise ImportError("spoilt needs flash-attn: pip install attnbench[flash]")

    badge = badge_for(register("softmax_explicit", __init__=__init__), "shape")
    assert badge.status is BadgeStatus.SKIPPED and "flash-attn" in (badge.reason or "")
    badge = badge_for(register("gla", reference=attentions.Attention.reference), "reference")
    assert badge.status is BadgeStatus.SKIPPED and "no slow form" in (badge.reason or "")
    name = register("softmax_explicit", {"devices": ("cuda",)}, **SOUND)
    assert badge_for(name, "shape").status is BadgeStatus.SKIPPED
    name = register(
        "softmax_explicit", {"dtypes": ("float32",), "backward_devices": ("cuda",)}, **SOUND
    )
    assert badge_for(name, "precision").status is BadgeStatus.PASSED
    assert badge_for(name, "gradients").status is BadgeStatus.SKIPPED


def test_a_pass_says_which_form_was_not_testable(register):
    sound: Any = attentions.attention_class("softmax_explicit")

    def __init__(self, geometry):
        if geometry.causal:
            raise ImportError("no module named fast")
        sound.__init__(self, geometry)

    badge = badge_for(register("softmax_explicit", __init__=__init__, **SOUND), "shape")
    assert badge.status is BadgeStatus.PASSED
    assert badge.reason == "liar-causal was not tested: no module named fast"


@pytest.mark.parametrize(
    ("checks", "status", "num_checks", "reason"),
    [
        ("+", BadgeStatus.PASSED, 1, None),
        ("n", BadgeStatus.NOT_CLAIMED, 1, None),  # it passed, and earns nothing
        ("n?", BadgeStatus.SKIPPED, 1, "no card"),
        ("+?", BadgeStatus.PASSED, 1, None),
        ("+-+-", BadgeStatus.FAILED, 4, "linear: minus: off (and 1 more)"),
        ("", BadgeStatus.NOT_CLAIMED, 0, None),
    ],
)
def test_a_badge_counts_the_checks_that_ran_and_is_earned_by_those_that_earn(
    monkeypatch, checks, status, num_checks, reason
):
    def plus(form):
        pass

    def minus(form):
        raise Broken("off")

    def untestable(form):
        raise Untestable("no card")

    runs = {"+": plus, "n": plus, "-": minus, "?": untestable}
    made = [
        Check(claim="shape", run=runs[c], applies=always, per_form=False, earns=c != "n")
        for c in checks
    ]
    monkeypatch.setattr(run, "CHECKS", made)
    badge = badge_for("linear", "shape")
    assert (badge.status, badge.num_checks, badge.reason) == (status, num_checks, reason)


def test_every_claim_has_a_check_and_every_check_a_claim():
    assert {check.claim for check in CHECKS} == set(CLAIMS)
    assert all(check.run.__doc__ for check in CHECKS)


def test_a_refusal_is_an_error_of_its_kind_with_its_words():
    def call(error):
        def fail():
            raise error

        return fail

    require_refusal(call(ValueError("13 tokens")), ValueError, "13 ")
    with pytest.raises(Broken, match="is refused without saying '13 '"):
        require_refusal(call(ValueError("no")), ValueError, "13 ")
    with pytest.raises(KeyError):
        require_refusal(call(KeyError("13 tokens")), ValueError, "13 ")
    with pytest.raises(Broken, match="is not refused"):
        require_refusal(lambda: None, ValueError, "")


def test_a_mechanism_that_cannot_be_called_is_one_line(register):
    name = register(
        "softmax_explicit",
        forward=spoilt("softmax_explicit", Mock(side_effect=ZeroDivisionError("no keys"))),
    )
    badges = [badge_for(name, claim) for claim in ("shape", "causal", "order")]
    (line,) = reasons({name: badges})
    assert line.startswith("FAILED liar: causal, shape, order: liar-causal: ")
    assert "ZeroDivisionError: no keys" in line


def test_masks_without_cross_attention_are_tested_on_as_many_queries_as_keys(register):
    can = attentions.Capabilities(masks=frozenset({"padding"}))
    badge = badge_for(register("softmax_explicit", capabilities=can), "padding")
    assert badge.status is BadgeStatus.PASSED, badge.reason
