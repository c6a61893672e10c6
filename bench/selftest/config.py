"""What the self-test was asked for, checked; see conf/selftest.yaml."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.app.errors import ConfigError, did_you_mean
from bench.config import SweepConfig, one, read_names, read_number, read_sweep_config
from bench.gate.versus import Effort
from bench.measure.stopping import Stopping
from bench.selftest.rival_child import BUNCH

PARTS = ("alarms", "power", "rivals", "precision", "overhead")
TOOLS = ("pytest_benchmark", "torch_timer")


@dataclass(frozen=True, kw_only=True)
class Rivals:
    """How the other tools are run.

    Attributes:
        num_trials: of each tool, idle and beside the load, of each slowdown and of none.
        repeat_every: slowdowns, as in `SelftestConfig.power_repeats`.
        threshold: a slowdown that is one: 0.05 is 5 %.
        budget_s: seconds of timing for each side of a trial.
        cells_per_process: trials that two processes are good for, of a cell each.
    """

    num_trials: int
    repeat_every: tuple[int, ...]
    tools: tuple[str, ...]
    threshold: float
    budget_s: float
    cells_per_process: int

    @property
    def num_pairs(self) -> int:
        """Pairs of processes that make so many trials, or a few more."""
        return -(-self.num_trials // self.cells_per_process)


@dataclass(frozen=True, kw_only=True)
class SelftestConfig:
    """Everything that `bench.selftest` was asked for.

    Attributes:
        sweep: the cells.
        num_alarm_trials: half of them beside the load.
        num_power_trials: of each slowdown, idle and beside the load.
        power_repeats: after so many calls one is made twice: 20 is a slowdown of 5 %.
        precision_budget_s: seconds of rounds per cell.
    """

    sweep: SweepConfig
    parts: tuple[str, ...]
    report: bool
    fresh: bool
    max_minutes: float
    laps: int
    family_error: float
    effort: Effort
    num_alarm_trials: int
    num_power_trials: int
    power_repeats: tuple[int, ...]
    rivals: Rivals
    precision_seq_len: tuple[int, ...]
    precision_budget_s: float
    num_overhead_trials: int
    page: Path

    @property
    def out(self) -> Path:
        """Where the data is."""
        return self.sweep.out

    @property
    def settings(self) -> dict[str, Any]:
        """All that decides what a number means: runs that differ in it are not continued."""
        sweep = asdict(self.sweep)
        return {
            "attention": [entry["label"] for entry in sweep["attention"]],
            "hyperparameters": [entry["hyperparameters"] for entry in sweep["attention"]],
            "axes": sweep["axes"],
            "allocator": self.sweep.run.allocator,
            "laps": self.laps,
            "family_error": self.family_error,
            "effort": asdict(self.effort),
            "alarms": self.num_alarm_trials,
            "power": {"num_trials": self.num_power_trials, "repeat_every": self.power_repeats},
            "rivals": asdict(self.rivals),
            "precision": {
                "seq_len": self.precision_seq_len,
                "budget_s": self.precision_budget_s,
            },
            "overhead": self.num_overhead_trials,
        }


def read_selftest_config(composed: Mapping[str, Any]) -> SelftestConfig:
    """Check every value.

    Raises:
        ConfigError: naming the key, what was given and what is allowed.
    """
    config = dict(composed)
    usual = {"task": {}, "seed": 0, "dry_run": False, "force": False, "require_ok": False}
    effort, power, rivals = (_section(config, name) for name in ("effort", "power", "rivals"))
    alarms, precision, overhead = (
        _section(config, name) for name in ("alarms", "precision", "overhead")
    )
    parts = _words(config, "parts", PARTS)
    tools = _words(rivals, "tools", TOOLS)
    report = one(config, "report", bool)
    if "rivals" in parts and "pytest_benchmark" in tools and not report:
        _refuse_missing_rival()
    return SelftestConfig(
        sweep=read_sweep_config(config | usual | {"measure": asdict(Stopping())}),
        parts=parts,
        report=report,
        fresh=one(config, "fresh", bool),
        max_minutes=read_number("max_minutes", config.get("max_minutes"), low=0.0),
        laps=_count("laps", config.get("laps")),
        family_error=read_number("family_error", config.get("family_error"), low=1e-6, high=0.5),
        effort=Effort(
            threshold=read_number("threshold", config.get("threshold"), low=0.0, high=1.0),
            num_forks=_count("effort.num_forks", effort.get("num_forks"), low=2),
            fork_s=read_number("effort.fork_s", effort.get("fork_s"), low=0.0),
            budget_s=read_number("effort.budget_s", effort.get("budget_s"), low=0.0),
        ),
        num_alarm_trials=_count("alarms.num_trials", alarms.get("num_trials")),
        num_power_trials=_count("power.num_trials", power.get("num_trials")),
        power_repeats=_counts("power.repeat_every", power.get("repeat_every")),
        rivals=Rivals(
            num_trials=_count("rivals.num_trials", rivals.get("num_trials")),
            repeat_every=_divisors("rivals.repeat_every", rivals.get("repeat_every")),
            tools=tools,
            threshold=read_number("rivals.threshold", rivals.get("threshold"), low=0.0, high=1.0),
            budget_s=read_number("rivals.budget_s", rivals.get("budget_s"), low=0.001),
            cells_per_process=_count("rivals.cells_per_process", rivals.get("cells_per_process")),
        ),
        precision_seq_len=_counts("precision.seq_len", precision.get("seq_len")),
        precision_budget_s=read_number(
            "precision.budget_s", precision.get("budget_s"), low=0.0, high=600.0
        ),
        num_overhead_trials=_count("overhead.num_trials", overhead.get("num_trials")),
        page=Path(one(config, "page", str)),
    )


def _section(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    given = config.get(name)
    if not isinstance(given, dict):
        raise ConfigError(f"{name} is {given!r}; it has keys of its own, e.g. {name}.KEY=VALUE.")
    return given


def _count(name: str, value: Any, low: int = 1) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise ConfigError(f"{name} is {value!r}; it takes a whole number of {low} or more.")
    return value


def _counts(name: str, given: Any) -> tuple[int, ...]:
    values = given if isinstance(given, list) else [given]
    if not values:
        raise ConfigError(f"{name}=[] leaves nothing to measure. Give one number or more.")
    return tuple(dict.fromkeys(_count(name, value) for value in values))


def _divisors(name: str, given: Any) -> tuple[int, ...]:
    """Numbers of calls that fit into a rival's bunch without a rest."""
    counts = _counts(name, given)
    for count in counts:
        if BUNCH % count:
            raise ConfigError(f"{name} is {count}; it takes divisors of {BUNCH}, e.g. 20, 10, 5.")
    return counts


def _words(config: dict[str, Any], name: str, known: Sequence[str]) -> tuple[str, ...]:
    words = read_names(config, name)
    for word in words:
        if word not in known:
            raise ConfigError(f"{name}: {word} is not known. {did_you_mean(word, known)}")
    return words


def _refuse_missing_rival() -> None:
    if importlib.util.find_spec("pytest_benchmark") is None:
        raise ConfigError(
            "pytest-benchmark is not installed. Install it with `pip install -e '.[dev]'`, or "
            "leave it out with rivals.tools=[torch_timer]."
        )
