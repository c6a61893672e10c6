"""Settings of `bench.selftest`; conf/selftest.yaml says what each one means."""

from __future__ import annotations

import importlib.util
from typing import Annotated, Literal

from bench.core.cli.limits import Share
from bench.core.settings import (
    AfterValidator,
    Folder,
    Interval,
    Many,
    Settings,
    Some,
    Span,
    model_validator,
)
from bench.studies.gate.paired import Effort

PYTEST: Literal["pytest_benchmark"] = "pytest_benchmark"
TIMER: Literal["torch_timer"] = "torch_timer"

BUNCH = 20
"""Calls per sample of a rival, so that each sample has a slowdown of every twentieth call."""

Count = Annotated[int, Interval(ge=1, le=100_000)]
Seconds = Annotated[float, Interval(ge=0.0, le=3600.0)]


def _even(number: int) -> int:
    if number % 2:
        raise ValueError("it must be even, since half of them are made next to a load")
    return number


def _slowdown(percent: int) -> int:
    """Refuse a slowdown that repeating each n-th call cannot make, with n a divisor of `BUNCH`."""
    if 100 % percent or BUNCH * percent % 100:
        raise ValueError("it takes 5, 10, 20, 25, 50 or 100 per cent")
    return percent


class Trials(Settings):
    """Comparisons of each experiment."""

    unchanged: Annotated[int, Interval(ge=2, le=100_000), AfterValidator(_even)]
    slowdown: Count
    rivals: Count


class Forks(Settings):
    """How hard the gate looks before a verdict; see `bench.studies.gate.paired.Effort`."""

    num_forks: Annotated[int, Interval(ge=2, le=1000)]
    fork_s: Seconds
    budget_s: Seconds


class Rivals(Settings):
    """The other tools that are asked."""

    tools: Some[Literal["pytest_benchmark", "torch_timer"]]
    threshold: Share
    cells_per_process: Count


class Selftest(Settings):
    """Everything but the cells, which are set as in `bench.sweep`."""

    trials: Trials
    budget: Span
    slowdowns: Many[Annotated[int, Interval(ge=1, le=100), AfterValidator(_slowdown)]]
    report: bool
    threshold: Share
    family_error: Annotated[float, Interval(ge=1e-6, le=0.5)]
    effort: Forks
    rivals: Rivals
    out: Folder
    page: Folder

    @property
    def gate(self) -> Effort:
        """Effort of the gate, with its threshold of a slowdown."""
        return Effort(threshold=self.threshold, **self.effort.model_dump())

    @property
    def side_s(self) -> float:
        """Seconds that a rival times each side, as many as the gate's first forks do."""
        return self.effort.num_forks * self.effort.fork_s / 2

    @model_validator(mode="after")
    def _is_installed(self) -> Selftest:
        is_asked = PYTEST in self.rivals.tools and not self.report
        if is_asked and importlib.util.find_spec(PYTEST) is None:
            raise ValueError(
                "pytest-benchmark is not installed. Install it with `pip install -e '.[dev]'`, or "
                f"leave it out with rivals.tools=[{TIMER}]."
            )
        return self
