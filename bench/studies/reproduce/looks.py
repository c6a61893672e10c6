"""Group-sequential tests over seeds, which stop at the look that decides. Numbers in, numbers out.

A study that is tested after every seed and stops at the first p-value below 5 % is wrong far more
often than 5 times in 100. The looks, or interim analyses, are therefore fixed beforehand, and each
spends a part of the 5 %.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from bench.core.comparison import LEVEL, Difference

USUAL = (3, 4, 6, 8, 12)

AHEAD, BEHIND, OPEN, NOT_DECIDED = "ahead", "behind", "open", "not decided"


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

    def __post_init__(self) -> None:
        """Refuse an invalid plan.

        Raises:
            ValueError: there are no looks, they do not rise, or one has fewer than two seeds.
        """
        rises = all(one < other for one, other in pairwise(self.numbers))
        if not self.numbers or self.numbers[0] < 2 or not rises:
            raise ValueError(f"looks at {self.numbers} seeds: rising numbers from 2 on are needed.")

    @property
    def spent(self) -> tuple[float, ...]:
        """Level that each look spends; their sum is `level`."""
        steps = (other - one for one, other in pairwise((0, *self.numbers)))
        return tuple(self.level * step / self.numbers[-1] for step in steps)

    def decide(self, found: Difference | None) -> str:
        """``ahead``, ``behind``, ``open``, or at the last look ``not decided``.

        Nothing is decided at a number of seeds for which no look was planned.

        Raises:
            ValueError: there are more seeds than were fixed beforehand.
        """
        num_seeds = found.num_seeds if found else 0
        if num_seeds > self.numbers[-1]:
            raise ValueError(
                f"{num_seeds} seeds were run; at most {self.numbers[-1]} were fixed beforehand."
            )
        if found and num_seeds in self.numbers:
            level = self.spent[self.numbers.index(num_seeds)]
            if found.p_value <= level and found.ahead != 0.5:
                return AHEAD if found.ahead > 0.5 else BEHIND
        return NOT_DECIDED if num_seeds == self.numbers[-1] else OPEN
