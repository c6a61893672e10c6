"""Badges as a table, with a line per failure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from rich.table import Table
from rich.text import Text

from bench.core.proofs import Badge, BadgeStatus

Tested = Mapping[str, Sequence[Badge]]
"""Mechanism -> badges."""

_IN_WORDS = {
    BadgeStatus.PASSED: "passed",
    BadgeStatus.FAILED: "failed",
    BadgeStatus.NOT_CLAIMED: "not claimed",
    BadgeStatus.SKIPPED: "not testable here",
}


def table(tested: Tested) -> Table:
    """One row per mechanism: what it has earned, what failed, what it does not claim."""
    rows = Table("mechanism", "passed", "failed", "not claimed", "not testable here")
    rows.columns[0].no_wrap = True
    for name, badges in tested.items():
        rows.add_row(
            name,
            Text(_names(badges, BadgeStatus.PASSED), style="green"),
            Text(_names(badges, BadgeStatus.FAILED), style="bold red"),
            Text(_names(badges, BadgeStatus.NOT_CLAIMED), style="dim"),
            Text(_names(badges, BadgeStatus.SKIPPED), style="dim"),
        )
    return rows


def _names(badges: Sequence[Badge], status: BadgeStatus) -> str:
    return " ".join(badge.claim for badge in badges if badge.status is status) or "-"


def reasons(tested: Tested) -> list[str]:
    """Give a line per failure, then one per reason for which something could not be tested.

    Causal forms that leak come first: no other failure makes numbers as worthless. A mechanism
    that cannot be called at all fails every claim by one error, which is a single line.
    """
    failures = [
        (name, ", ".join(badge.claim for badge in failed), failed[0])
        for name, badges in tested.items()
        for failed in _by_error(badges)
    ]
    failures.sort(key=lambda failure: failure[2].claim != "causal")
    failed = [f"FAILED {name}: {claims}: {badge.reason}" for name, claims, badge in failures]
    skipped: dict[str, tuple[dict[str, None], dict[str, None]]] = {}
    for name, badges in tested.items():
        for badge in badges:
            if badge.reason and badge.status is not BadgeStatus.FAILED:
                names, claims = skipped.setdefault(badge.reason, ({}, {}))
                names[name] = claims[badge.claim] = None
    return failed + [
        f"not testable here: {', '.join(claims)} of {', '.join(names)}: {why}"
        for why, (names, claims) in skipped.items()
    ]


def _by_error(badges: Sequence[Badge]) -> list[list[Badge]]:
    """Failed badges of a mechanism, those with the same error text together."""
    groups: dict[str, list[Badge]] = {}
    for badge in badges:
        if badge.status is BadgeStatus.FAILED:
            error = (badge.reason or "").split(": ", 2)[-1]  # behind the form and the check
            groups.setdefault(re.sub(r" \(and \d+ more\)$", "", error), []).append(badge)
    for group in groups.values():
        group.sort(key=lambda badge: badge.claim != "causal")
    return list(groups.values())


def summary(badges: Sequence[Badge]) -> str:
    """Such as ``23 passed, 0 failed, 2 not claimed``."""
    count = {status: sum(badge.status is status for badge in badges) for status in BadgeStatus}
    told = [s for s in BadgeStatus if s is not BadgeStatus.SKIPPED or count[s]]
    return ", ".join(f"{count[status]} {_IN_WORDS[status]}" for status in told)
