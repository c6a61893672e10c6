"""Rule for when to stop taking rounds, with names for its verdicts, which records store."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

from annotated_types import Interval


@dataclass(frozen=True, kw_only=True)
class Stopping:
    """Stop when every ratio to the reference is known well enough, or the budget is spent.

    Attributes:
        target_half_width: half of the 95 % interval of a paired ratio, relative to the ratio.
        budget_s: seconds of rounds per member of a block.
        min_rounds: taken whatever they cost; fewer support no interval.
        min_sample_s: a sample repeats the call until it lasts this long.
        num_processes: fresh processes that share the rounds, one after another; budget and numbers
            of rounds are those of all together.
    """

    target_half_width: Annotated[float, Interval(ge=0)] = 0.02
    budget_s: Annotated[float, Interval(ge=0, le=86_400)] = 1.0
    min_rounds: Annotated[int, Interval(ge=1, le=1_000_000)] = 7
    max_rounds: Annotated[int, Interval(ge=1, le=1_000_000)] = 200
    min_sample_s: Annotated[float, Interval(ge=0, le=60)] = 0.001
    num_processes: Annotated[int, Interval(ge=1, le=1000)] = 1

    @property
    def of_one_process(self) -> Stopping:
        """The share of each process."""
        n = self.num_processes
        return replace(
            self,
            budget_s=self.budget_s / n,
            min_rounds=-(-self.min_rounds // n),
            max_rounds=-(-self.max_rounds // n),
            num_processes=1,
        )

    def is_check_due(self, num_rounds: int) -> bool:
        """Whether to compute the intervals now: they cost time, and each round adds little."""
        return num_rounds >= self.min_rounds and (num_rounds - self.min_rounds) % 4 == 0

    def verdict(
        self, *, num_rounds: int, num_members: int, spent_s: float, half_widths: list[float] | None
    ) -> str | None:
        """Why to stop now, ``precise``, ``budget`` or ``rounds``; None to go on.

        Seconds are since the first round began; `half_widths` are relative, None if not computed.
        """
        if num_rounds < self.min_rounds:
            return None
        if half_widths and all(width <= self.target_half_width for width in half_widths):
            return "precise"
        if spent_s >= self.budget_s * num_members:
            return "budget"
        return "rounds" if num_rounds >= self.max_rounds else None
