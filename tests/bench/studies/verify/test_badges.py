"""A badge for each claim: passed, failed with a reason, not claimed or untestable."""

from dataclasses import replace

import pytest

from attentions.testing.suite import CLAIMS
from bench.core.proofs import SERVING, BadgeStatus
from bench.studies.verify.badges import badge_for, badges_of, summary
from tests.bench.studies.verify.goldens import RESULT

OUTCOMES = {
    "+": RESULT,
    "n": replace(RESULT, earns=False),
    "-": replace(RESULT, outcome="failed", reason="off", check="minus"),
    "?": replace(RESULT, outcome="skipped", reason="no card"),
}


@pytest.mark.parametrize(
    ("results", "status", "num_checks", "reason"),
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
    results, status, num_checks, reason
):
    badge = badge_for("causal", [OUTCOMES[each] for each in results])
    assert (badge.status, badge.num_checks, badge.reason) == (status, num_checks, reason)


def test_a_pass_says_which_form_was_not_testable():
    other = replace(OUTCOMES["?"], form="linear-causal")
    badge = badge_for("causal", [RESULT, other])
    assert badge.status is BadgeStatus.PASSED
    assert badge.reason == "linear-causal was not tested: no card"


def test_a_pass_says_how_near_it_is():
    badge = badge_for("causal", [replace(RESULT, facts=({"verdict": "within 2 ulp"},))])
    assert (badge.status, badge.reason) == (BadgeStatus.PASSED, "within 2 ulp")


def test_claims_that_were_not_reached_before_the_process_died_are_skipped():
    died = replace(OUTCOMES["-"], claim="cross", reason="killed", is_last=True)
    badges = {badge.claim: badge for badge in badges_of([RESULT, died], "hash")}
    assert list(badges) == list(CLAIMS) and {*SERVING} < badges.keys()
    assert badges["causal"].source == "hash"
    assert badges["causal"].status is BadgeStatus.PASSED
    assert badges["cross"].status is BadgeStatus.FAILED
    assert badges["padding"].status is BadgeStatus.SKIPPED
    assert badges["padding"].reason == "not tested: linear: minus: killed"
    told = "1 passed, 1 failed, 0 not claimed, 30 not testable here"
    assert summary([*badges.values()]) == told
