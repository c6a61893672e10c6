"""Sequential studies: a claim gets more seeds at looks fixed beforehand, until it is decided."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from bench.studies.reproduce.claims.registry import Function, Lab
from bench.studies.reproduce.findings import Finding
from bench.studies.reproduce.looks import Looks
from bench.studies.reproduce.verdicts import DECIDED
from bench.studies.session import Stopped


class BudgetSpent(Exception):
    """The budget ended before the last look; the message names the last one that was taken."""


def plan_words(looks: Looks) -> str:
    """As ``looks at 3, 4, 6, 8, 12 seeds, at most 12; ... together 0.05``."""
    levels = ", ".join(f"{level:.4f}" for level in looks.spent)
    return (
        f"looks at {_numbers(looks)} seeds, at most {looks.numbers[-1]}; "
        f"their levels are {levels}, together {looks.level:g}"
    )


def decide(function: Function, lab: Lab, settings: Mapping[str, Any], looks: Looks) -> Finding:
    """Call a claim's function at each look, until one decides.

    A look has the seeds 0 to n - 1, so that it trains only those that the look before did not have.

    Args:
        function: of the claim; it takes `seeds`, and tests differences at `Lab.level`.
        lab: trains, until its deadline if it has one.
        settings: of the claim's entry; its own seeds are not used.
        looks: numbers of seeds, and the significance level of each look.

    Returns:
        The finding of the look that decided, or of the last one; its words say which.

    Raises:
        BudgetSpent: the deadline came first.
        Stopped: by Ctrl-C.
    """
    taken = "the first look was not reached"
    for place, (number, level) in enumerate(zip(looks.numbers, looks.spent, strict=True), start=1):
        if place > 1 and lab.is_over:
            raise BudgetSpent(taken)
        lab.level = level
        try:
            found = function(lab, **{**settings, "seeds": list(range(number))})
        except Stopped:
            if lab.is_over:
                raise BudgetSpent(taken) from None
            raise
        at = (
            f"look {place} of {len(looks.numbers)} (at {_numbers(looks)} seeds), "
            f"{number} seeds, level {level:.4f} of {looks.level:g}"
        )
        if found.verdict in DECIDED:
            return replace(found, words=f"decided at {at}: {found.words}", looks=looks.numbers)
        taken = f"not decided at {at}: {found.verdict}"
        lab.session.say(f"  {taken}")
    words = f"not decided with {number} seeds at {at}: {found.words}"
    return replace(found, words=words, looks=looks.numbers)


def _numbers(looks: Looks) -> str:
    return ", ".join(map(str, looks.numbers))
