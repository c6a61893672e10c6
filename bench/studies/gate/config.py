"""Settings of `bench.regress`, checked; see conf/regress.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from bench.core.cli.errors import ConfigError
from bench.core.settings import (
    AfterValidator,
    BeforeValidator,
    Folder,
    Interval,
    Many,
    Name,
    Settings,
)
from bench.measuring.config import SweepConfig, read_sweep_config
from bench.measuring.measure.stopping import Stopping
from bench.studies.gate.accept import Accept, read_accepts
from bench.studies.gate.paired import Effort

File = Annotated[Folder, AfterValidator(Path.expanduser)]


OF_A_SWEEP = {"dry_run": False, "force": False, "require_ok": False, "measure": asdict(Stopping())}
"""Keys of a sweep that a comparison does not have."""


class _Keys(Settings):
    """Keys that are read only to build the sweep's configuration."""

    scope: Many[str]
    task_settings: dict[str, Any]


class GateConfig(Settings):
    """Everything that `bench.regress` was asked for."""

    sweep: SweepConfig
    base: Name | None = None
    """Commit to compare with; None for the usual one."""
    baseline: File | None = None
    """Stored numbers to compare with, in place of a commit."""
    current: File | None = None
    """Other stored numbers, beside `baseline`."""
    accept: Annotated[tuple[Accept, ...], BeforeValidator(read_accepts)] = ()
    threshold: Annotated[float, Interval(ge=0, le=1)]
    """Slowdown, as a share."""
    budget_s: Annotated[float, Interval(ge=0, le=3600)]
    """Seconds per comparison."""
    stored_threshold: Annotated[float, Interval(ge=0, le=10)]
    """Slowdown between stored numbers."""
    family_error: Annotated[float, Interval(ge=1e-6, le=0.5)]
    """Chance of a false SLOWER over all cells."""

    @property
    def effort(self) -> Effort:
        """Budget of a comparison, and the slowdown that it must find."""
        return Effort(threshold=self.threshold, budget_s=self.budget_s)


def read_gate_config(composed: Mapping[str, Any]) -> GateConfig:
    """Validate the composed configuration.

    Raises:
        ConfigError: a value is not allowed, or two keys exclude each other.
    """
    keys = _Keys.read(composed)
    given = composed.get("task") or {}
    tasks = {label: {**task, **keys.task_settings} for label, task in given.items()}
    _refuse_two(composed)
    if "model" in keys.scope:
        raise ConfigError(
            "scope=model is not compared: regress times mechanisms of two trees in one process. "
            "Choose scope=core or scope=layer; attnbench sweep measures whole models."
        )
    sweep = read_sweep_config({**composed, **OF_A_SWEEP, "task": tasks})
    return GateConfig.read({**composed, "sweep": sweep})


def _refuse_two(config: Mapping[str, Any]) -> None:
    """Refuse keys that exclude each other: each selects another kind of comparison."""
    given = [name for name in ("base", "baseline") if config.get(name)]
    if len(given) > 1:
        raise ConfigError(f"{' and '.join(given)} are given; choose one of them.")
    if config.get("current") is not None and "baseline" not in given:
        raise ConfigError("current is given without baseline, the numbers to compare it with.")
