"""Badges: how each claim of a mechanism ended, of the results of its checks."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from attentions.testing.suite import CLAIMS
from bench.core.clock import utc_now
from bench.core.proofs import Badge, BadgeStatus
from bench.studies.verify.tester import FAILED, PASSED, SKIPPED, Result

_MAX_REASON = 300
_IN_WORDS = {
    BadgeStatus.PASSED: "passed",
    BadgeStatus.FAILED: "failed",
    BadgeStatus.NOT_CLAIMED: "not claimed",
    BadgeStatus.SKIPPED: "not testable here",
}


def badges_of(results: Sequence[Result], source: str) -> tuple[Badge, ...]:
    """One badge per claim of a mechanism, in the order of `CLAIMS`.

    Args:
        results: of all checks of the mechanism.
        source: hash of its source, to be kept in the badges.
    """
    return tuple(badge_for(claim, results, source) for claim in CLAIMS)


def badge_for(claim: str, results: Sequence[Result], source: str = "") -> Badge:
    """The badge of one claim; one that was not reached because the process ended is skipped."""
    own = [result for result in results if result.claim == claim]
    failed = [result for result in own if result.outcome == FAILED]
    earning = [result for result in own if result.earns]
    passed = {result.form for result in earning if result.outcome == PASSED}
    untestable: dict[str, str] = {}  # by form
    for result in earning:
        if result.outcome == SKIPPED:
            untestable.setdefault(result.form, result.reason or "")
    cut = [result for result in results if result.is_last]
    status, reason = BadgeStatus.PASSED, None
    if failed:
        more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        status, reason = BadgeStatus.FAILED, _in_words(failed[0]) + more
    elif cut and not passed:
        status, reason = BadgeStatus.SKIPPED, f"not tested: {_in_words(cut[0])}"
    elif not earning:
        status = BadgeStatus.NOT_CLAIMED
    elif not passed:
        status, reason = BadgeStatus.SKIPPED, next(iter(untestable.values()))
    else:
        left = [form for form in untestable if form not in passed]
        verdicts = dict.fromkeys(f["verdict"] for r in own for f in r.facts if "verdict" in f)
        said = [*verdicts, *(f"{form} was not tested: {untestable[form]}" for form in left)]
        reason = "; ".join(said) or None
    return Badge(
        claim=claim,
        status=status,
        reason=reason,
        num_checks=sum(result.outcome != SKIPPED for result in own),
        source=source,
        tested_at=utc_now(),
        torch=torch.__version__,
    )


def _in_words(result: Result) -> str:
    text = result.words
    if len(text) > _MAX_REASON:
        text = f"{text[:_MAX_REASON]}…"
    return f"{result.form}: {result.check.replace('_', ' ')}: {text}"


def summary(badges: Sequence[Badge]) -> str:
    """Such as ``23 passed, 0 failed, 2 not claimed``."""
    count = {status: sum(badge.status is status for badge in badges) for status in BadgeStatus}
    told = [s for s in BadgeStatus if s is not BadgeStatus.SKIPPED or count[s]]
    return ", ".join(f"{count[status]} {_IN_WORDS[status]}" for status in told)
