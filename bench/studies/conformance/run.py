"""All claims and checks; run them on a mechanism, and give it a badge for each claim."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import torch

from bench.core.cli.foreign import foreign_code, told
from bench.core.clock import utc_now
from bench.core.proofs import Badge, BadgeStatus
from bench.core.registry import import_all
from bench.studies.conformance import check as registered
from bench.studies.conformance.check import Broken, Check, Untestable
from bench.studies.conformance.forms import Form, forms_of

_MAX_REASON = 300
CLAIMS = {
    "shape": "shape and dtype are kept, whatever the strides; inputs are not modified",
    "any_shape": "equal to the reference at lengths and widths that no chunk divides",
    "batch": "rows of a batch are independent",
    "heads": "heads are independent",
    "order": "without positions, the order of keys does not matter",
    "forms": "only the forms that are claimed can be built, with the masks and gates claimed",
    "causal": "the future is invisible, to the bit",
    "cross": "the number of keys may differ from the number of queries",
    "padding": "hidden keys are as good as removed keys",
    "dense": "hidden pairs are as good as removed pairs",
    "recurrent": "steps equal the forward pass, however the prompt is split",
    "exact": "it is softmax attention",
    "reference": "outputs and gradients equal the reference in float64",
    "gradients": "gradients equal finite differences in float64",
    "precision": "errors in half precision are those of rounding",
    "finite": "outputs and gradients are finite on zeros and on norms from 1e-6 to 1e3",
    "autocast": "runs under torch.autocast, forward and backward",
    "deterministic": "the same seed gives the same mechanism and output",
    "state_dict": "the state dict carries everything over",
    "meta": "output shapes can be computed on the meta device",
    "inference": "training works after a call under inference mode",
    "compile": "torch.compile captures it in one graph",
    "export": "torch.export captures it with a dynamic number of tokens",
    "flops": "the FLOP formula gives what torch counts",
    "cuda": "a CUDA device gives what the CPU gives",
}
"""Badge -> what it says."""

import_all("bench.studies.conformance")
CHECKS = tuple(
    sorted(
        registered.CHECKS,
        key=lambda one: ([*CLAIMS].index(one.claim), one.run.__module__),
    )
)
"""All checks of this package, in the order of the claims."""


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
