"""What the self-test was asked for, checked; see conf/selftest.yaml."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.app.errors import ConfigError
from bench.app.values import Values, duration, flag, number, text, whole, word
from bench.config import SweepConfig, read_sweep_config
from bench.gate.versus import Effort
from bench.measure.stopping import Stopping

PYTEST = "pytest_benchmark"
TIMER = "torch_timer"
RIVALS = (PYTEST, TIMER)

BUNCH = 20
"""Calls in a rival's bunch: a slowdown in every twentieth call is in each of its samples."""


@dataclass(frozen=True, kw_only=True)
class TrialCounts:
    """Comparisons of each experiment.

    Attributes:
        unchanged: by the gate of a tree with itself, idle and next to the load together: an even
            number, half each.
        slowdown: by the gate for each slowdown and machine state.
        rivals: by each other tool, for each slowdown and none and each machine state.
    """

    unchanged: int
    slowdown: int
    rivals: int

    def of_gate(self, percent: int) -> int:
        """Trials of the gate in one machine state."""
        return self.slowdown if percent else self.unchanged // 2


@dataclass(frozen=True, kw_only=True)
class SelftestConfig:
    """Everything that `bench.selftest` was asked for.

    Attributes:
        sweep: the cells that are compared with themselves.
        trials: comparisons of each experiment.
        budget_s: no trial begins that is expected to end later.
        slowdowns: in per cent, each a whole number of calls in `BUNCH`.
        rivals: the other tools that are asked.
        rival_threshold: what counts as a slowdown for them: 0.05 is 5 %.
        cells_per_process: trials that two processes of a rival serve, one cell each.
    """

    sweep: SweepConfig
    trials: TrialCounts
    budget_s: float
    slowdowns: tuple[int, ...]
    effort: Effort
    family_error: float
    rivals: tuple[str, ...]
    rival_threshold: float
    cells_per_process: int
    report: bool
    page: Path

    @property
    def side_s(self) -> float:
        """Seconds of timing that a rival gets for a side: what the gate's first forks give one."""
        return self.effort.num_forks * self.effort.fork_s / 2

    @property
    def settings(self) -> dict[str, Any]:
        """What the page says about how its numbers were made."""
        return {
            "attention": [entry.label for entry in self.sweep.attention],
            "seq_len": self.sweep.axes.seq_len,
            "effort": asdict(self.effort),
            "side_s": self.side_s,
            "rival_threshold": self.rival_threshold,
            "cells_per_process": self.cells_per_process,
        }


def read_selftest_config(composed: Mapping[str, Any]) -> SelftestConfig:
    """Check every value.

    Raises:
        ConfigError: naming the key, what was given and what is allowed.
    """
    usual = {"task": {}, "seed": 0, "dry_run": False, "force": False, "require_ok": False}
    usual |= {"budget": None}  # of the self-test, below; a sweep has one of its own
    values = Values(composed)
    effort = values.section("effort", ("num_forks", "fork_s", "budget_s"))
    trials = values.section("trials", ("unchanged", "slowdown", "rivals"))
    rivals = values.section("rivals", ("tools", "threshold", "cells_per_process"))
    report = values.one("report", flag)
    tools = rivals.some("tools", word(RIVALS), or_none=True)
    if PYTEST in tools and not report and importlib.util.find_spec(PYTEST) is None:
        raise ConfigError(
            "pytest-benchmark is not installed. Install it with `pip install -e '.[dev]'`, or "
            f"leave it out with rivals.tools=[{TIMER}]."
        )
    return SelftestConfig(
        sweep=read_sweep_config(dict(composed) | usual | {"measure": asdict(Stopping())}),
        trials=TrialCounts(
            unchanged=trials.one("unchanged", _even),
            slowdown=trials.one("slowdown", whole(low=1, high=100_000)),
            rivals=trials.one("rivals", whole(low=1, high=100_000)),
        ),
        budget_s=values.one("budget", duration),
        slowdowns=values.some("slowdowns", _slowdown),
        effort=Effort(
            threshold=values.one("threshold", number(low=0.0, high=1.0)),
            num_forks=effort.one("num_forks", whole(low=2, high=1000)),
            fork_s=effort.one("fork_s", number(low=0.0, high=3600.0)),
            budget_s=effort.one("budget_s", number(low=0.0, high=3600.0)),
        ),
        family_error=values.one("family_error", number(low=1e-6, high=0.5)),
        rivals=tools,
        rival_threshold=rivals.one("threshold", number(low=0.0, high=1.0)),
        cells_per_process=rivals.one("cells_per_process", whole(low=1, high=100_000)),
        report=report,
        page=Path(values.one("page", text)),
    )


def _even(name: str, value: Any) -> int:
    """Half of them are made idle, and half next to a load."""
    number = whole(low=2, high=100_000)(name, value)
    if number % 2:
        raise ConfigError(
            f"{name} is {number}; half of them are made next to a load, so it must be even. Ask "
            f"for {name}={number + 1}."
        )
    return number


def _slowdown(name: str, value: Any) -> int:
    """One call in so many is made twice, and a bunch holds a whole number of those."""
    percent = whole(low=1, high=100)(name, value)
    if 100 % percent or BUNCH * percent % 100:
        raise ConfigError(f"{name} is {percent}; it takes 5, 10, 20, 25, 50 or 100 per cent.")
    return percent
