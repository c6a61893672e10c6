"""The training runs that a cell or a claim needs, and where one stands that was cut off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bench.core.cell import Cell
from bench.core.cli.command import read_yaml
from bench.core.places import CONF
from bench.measuring.config import SweepConfig, training_config
from bench.measuring.machine.environment import Environment, source_of_training
from bench.measuring.tasks.checkpoint import Checkpoint
from bench.studies.reproduce.papers import PaperCell, Protocol
from bench.studies.reproduce.stored import Run, row_of, runs_of, task_of

_LONGEST_S = 7 * 86_400
"""No run is cut off for its length: a budget does that."""


@dataclass(frozen=True, kw_only=True)
class Reached:
    """Where a run stands that was cut off."""

    steps: int
    num_steps: int
    score: float


def config_for(
    out: Path,
    rows: Mapping[str, dict[str, Any]],
    tasks: Mapping[str, dict[str, Any]],
    seeds: Sequence[int],
    plugins: Sequence[str] = (),
) -> SweepConfig:
    """A sweep over nothing but training runs, on the CPU, at just the settings that are given.

    Args:
        out: where records go.
        rows: by label, a mechanism and its hyperparameters.
        tasks: by label, a task and its settings.
        seeds: of each run.
        plugins: modules that register mechanisms.
    """
    run = read_yaml(CONF / "sweep.yaml")["run"] | {"task_timeout_s": _LONGEST_S}
    more = {"seed": list(seeds), "plugins": list(plugins), "device": "cpu", "run": run}
    return training_config(rows, tasks, out, **more)


def config_of(
    cell: PaperCell,
    protocol: Protocol,
    out: Path,
    seeds: Sequence[int],
    runs: Sequence[Run] | None = None,
) -> SweepConfig:
    """Some runs of a cell; all of them where none are named."""
    chosen = runs_of(protocol) if runs is None else runs
    tasks = {run.label: task_of(protocol, run) for run in chosen}
    return config_for(out, {cell.attention: row_of(cell)}, tasks, seeds)


def reached(config: SweepConfig, cut_off: Sequence[Cell], here: Environment) -> Reached | None:
    """Where the first of some runs stands that has a checkpoint; None if none has one.

    Raises:
        CheckpointRefused: it cannot be read.
    """
    for cell in cut_off:
        path = config.out / "checkpoints" / f"{cell.key}.pt"
        source = source_of_training(cell, here)
        saved = Checkpoint(path, cell.key, source).load(torch.device("cpu"))
        if saved is not None:
            num_steps = int(cell.task.settings["num_steps"])
            return Reached(
                steps=saved["steps"][-1], num_steps=num_steps, score=max(saved["scores"])
            )
    return None
