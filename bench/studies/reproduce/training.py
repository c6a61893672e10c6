"""Training runs of a cell or a claim, and the progress of one that was cut off."""

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
from bench.studies.reproduce.described import PaperCell, Protocol
from bench.studies.reproduce.runs import Run, row_of, runs_of, task_of

_LONGEST_S = 7 * 86_400
"""Time limit of a run, in seconds: so long that only a budget cuts a run off."""


@dataclass(frozen=True, kw_only=True)
class Reached:
    """Progress of a run that was cut off.

    Attributes:
        steps: parameter updates so far.
        num_steps: parameter updates of the whole run.
        score: the best on validation examples so far.
    """

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
    """A sweep of training runs alone, on the CPU, at exactly the given settings.

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
    """A sweep of some runs of a cell, or of all if none are given."""
    chosen = runs_of(protocol) if runs is None else runs
    tasks = {run.label: task_of(protocol, run) for run in chosen}
    return config_for(out, {cell.attention: row_of(cell)}, tasks, seeds)


def reached(config: SweepConfig, cut_off: Sequence[Cell], here: Environment) -> Reached | None:
    """Progress of the first of some runs that has a checkpoint; None if none has.

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
