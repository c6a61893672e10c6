"""Run the suite on a mechanism, and give it a badge for each claim."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import torch

from bench.core.cli.foreign import foreign_code, told
from bench.core.clock import utc_now
from bench.core.proofs import Badge, BadgeStatus
from bench.studies.conformance.check import Broken, Check, Untestable
from bench.studies.conformance.forms import Form, forms_of
from bench.studies.conformance.suite import CHECKS, CLAIMS

_MAX_REASON = 300


def badges_of(name: str, source: str = "") -> tuple[Badge, ...]:
    """One badge per claim of a mechanism, in the order of `CLAIMS`.

    Args:
        name: as registered.
        source: a hash of its source, to be kept in the badges.
    """
    return tuple(badge_for(name, claim, source) for claim in CLAIMS)


def checks_for(form: Form) -> Iterator[tuple[Check, tuple[object, ...]]]:
    """Pairs of a check that applies to a form, and one of its cases."""
    for check in CHECKS:
        if check.is_for(form):
            for case in check.cases:
                yield check, case


def badge_for(name: str, claim: str, source: str = "") -> Badge:
    """Test one claim of a mechanism."""
    failures: list[str] = []
    untestable: dict[str, str] = {}  # by form, of checks that count
    passed: Counter[str] = Counter()
    is_claimed, num_checks = False, 0
    for form in forms_of(name):
        for check, case in checks_for(form):
            if check.claim != claim:
                continue
            is_claimed |= check.earns
            num_checks += 1
            try:
                with foreign_code():
                    check(form, case)
                passed[form.id] += check.earns
            except Untestable as why:
                if check.earns:
                    untestable.setdefault(form.id, str(why))
                num_checks -= 1
            except Exception as error:  # whatever a mechanism raises, its claim does not hold
                failures.append(_in_words(form, check, error))
    status, reason = BadgeStatus.PASSED, None
    if failures:
        more = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
        status, reason = BadgeStatus.FAILED, failures[0] + more
    elif not is_claimed:
        status = BadgeStatus.NOT_CLAIMED
    elif not passed.total():
        status, reason = BadgeStatus.SKIPPED, next(iter(untestable.values()))
    else:
        left = [form for form in untestable if not passed[form]]
        reason = "; ".join(f"{form} was not tested: {untestable[form]}" for form in left) or None
    return Badge(
        claim=claim,
        status=status,
        reason=reason,
        num_checks=num_checks,
        source=source,
        tested_at=utc_now(),
        torch=torch.__version__,
    )


def _in_words(form: Form, check: Check, error: Exception) -> str:
    text = " ".join((str(error) if isinstance(error, Broken) else told(error)).split())
    if len(text) > _MAX_REASON:
        text = f"{text[:_MAX_REASON]}…"
    return f"{form.id}: {check.name.replace('_', ' ')}: {text}"
