"""What `bench.regress` was asked for, checked; see conf/regress.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.app.errors import ConfigError
from bench.app.values import Values, flag, number, text
from bench.config import SweepConfig, read_sweep_config
from bench.gate.accept import Accept, read_accepts
from bench.gate.versus import Effort
from bench.measure.stopping import Stopping


@dataclass(frozen=True, kw_only=True)
class GateConfig:
    """Everything that `bench.regress` was asked for.

    Attributes:
        base: the commit to compare with; None for the usual one.
        baseline: stored numbers to compare with, in place of a commit.
        current: with `baseline`, the other stored numbers.
        store: measure, and keep the numbers as a baseline.
        history: list how stored numbers moved.
        stored_threshold: a slowdown between stored numbers.
        family_error: chance of a false SLOWER over all cells.
    """

    sweep: SweepConfig
    base: str | None
    baseline: Path | None
    current: Path | None
    store: bool
    history: bool
    accept: tuple[Accept, ...]
    effort: Effort
    stored_threshold: float
    family_error: float


def read_gate_config(composed: Mapping[str, Any]) -> GateConfig:
    """Check every value.

    Raises:
        ConfigError: naming the key, what was given and what is allowed.
    """
    values = Values(composed)
    extra = values.section("task_settings").given
    tasks = {label: {**task, **extra} for label, task in (composed.get("task") or {}).items()}
    usual = {"dry_run": False, "force": False, "require_ok": False, "measure": asdict(Stopping())}
    _refuse_two(composed)
    if "model" in values.some("scope", text):
        raise ConfigError(
            "scope=model is not compared: regress times mechanisms of two trees in one process. "
            "Choose scope=core or scope=layer; python -m bench.sweep measures whole models."
        )
    return GateConfig(
        sweep=read_sweep_config({**composed, **usual, "task": tasks}),
        base=values.optional("base", text),
        baseline=values.optional("baseline", _path),
        current=values.optional("current", _path),
        store=values.one("store", flag),
        history=values.one("history", flag),
        accept=read_accepts(composed.get("accept")),
        effort=Effort(
            threshold=values.one("threshold", number(low=0.0, high=1.0)),
            budget_s=values.one("budget_s", number(low=0.0, high=3600.0)),
        ),
        stored_threshold=values.one("stored_threshold", number(low=0.0, high=10.0)),
        family_error=values.one("family_error", number(low=1e-6, high=0.5)),
    )


def _path(name: str, value: Any) -> Path:
    return Path(text(name, value)).expanduser()


def _refuse_two(config: Mapping[str, Any]) -> None:
    """Each of these keys is a way to say what to do, and there can be one."""
    given = [name for name in ("base", "baseline", "store", "history") if config.get(name)]
    if len(given) > 1:
        raise ConfigError(f"{' and '.join(given)} are given; choose one of them.")
    if config.get("current") is not None and "baseline" not in given:
        raise ConfigError("current is given without baseline, the numbers to compare it with.")
    if config.get("accept") and given and given[0] in ("store", "history"):
        raise ConfigError(f"accept is given, and {given[0]} compares nothing that could grow.")
