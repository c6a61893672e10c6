"""Group-sequential tests: a claim gets more seeds at looks until one decides. No torch.

A study that is tested after every seed and stops at the first p-value below 5 % is wrong far more
often than 5 times in 100. The looks, or interim analyses, are therefore fixed beforehand, and each
spends a part of the 5 %.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from bench.core.comparison import LEVEL
from bench.studies.reproduce.findings import Finding
from bench.studies.reproduce.verdicts import DECIDED
from bench.studies.session import Stopped

if TYPE_CHECKING:  # imports torch
    from bench.studies.reproduce.claims.registry import Function, Lab

USUAL = (3, 4, 6, 8, 12)


@dataclass(frozen=True, kw_only=True)
class Looks:
    """Numbers of seeds at which a study is tested; the last is the most that it may have.

    Each look spends level x (its seeds - those of the look before) / largest number of seeds: the
    spending function of Kim and DeMets, Biometrika 74 (1987), 149, that is linear in the number of
    seeds. A look tests at the level that it spends, so that the probabilities of a wrong decision
    add up to `level` at most (Bonferroni). This needs no joint distribution of the looks, so it is
    as valid with three seeds as Student's t is.

    Attributes:
        numbers: of seeds, rising, from 2 on.
        level: probability of any wrong decision where nothing differs, two-sided.
    """

    numbers: tuple[int, ...] = USUAL
    level: float = LEVEL

    @property
    def spent(self) -> tuple[float, ...]:
        """Level that each look spends; their sum is `level`."""
        steps = (other - one for one, other in pairwise((0, *self.numbers)))
        return tuple(self.level * step / self.numbers[-1] for step in steps)

    @property
    def words(self) -> str:
        """The numbers, as ``3, 4, 6, 8, 12``."""
        return ", ".join(map(str, self.numbers))

    def __str__(self) -> str:
        """As ``looks at 3, 4, 6, 8, 12 seeds, at most 12; ... together 0.05``."""
        levels = ", ".join(f"{level:.4f}" for level in self.spent)
        return (
            f"looks at {self.words} seeds, at most {self.numbers[-1]}; "
            f"their levels are {levels}, together {self.level:g}"
        )


class BudgetSpent(Exception):
    """The budget ended before the last look; the message names the last one that was taken."""


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
            f"look {place} of {len(looks.numbers)} (at {looks.words} seeds), "
            f"{number} seeds, level {level:.4f} of {looks.level:g}"
        )
        if found.verdict in DECIDED:
            return replace(found, words=f"decided at {at}: {found.words}", looks=looks.numbers)
        taken = f"not decided at {at}: {found.verdict}"
        lab.session.say(f"  {taken}")
    words = f"not decided with {number} seeds at {at}: {found.words}"
    return replace(found, words=words, looks=looks.numbers)
