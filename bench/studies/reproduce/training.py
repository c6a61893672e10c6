"""Training runs of a cell or a claim, and the progress of one that was cut off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from bench.core.cell import Cell
from bench.core.cli.command import read_yaml
from bench.core.places import CONF
from bench.measuring.config import SweepConfig, training_config
from bench.measuring.machine.environment import Environment, source_of_training
from bench.measuring.tasks.checkpoint import Checkpoint
from bench.studies.reproduce.described import Protocol

_LONGEST_S = 7 * 86_400
"""Time limit of a run, in seconds: so long that only a budget cuts a run off."""


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


def reached(out: Path, cut_off: Sequence[Cell], here: Environment, protocol: Protocol) -> str:
    """As ``reached 83.1 on validation examples by epoch 2.4 of 64``, of the first run with a score.

    Args:
        out: where records and checkpoints go.
        cut_off: runs that did not end.
        here: the machine.
        protocol: of the runs.

    Raises:
        CheckpointRefused: a checkpoint cannot be read.
    """
    for cell in cut_off:
        path, source = out / "checkpoints" / f"{cell.key}.pt", source_of_training(cell, here)
        saved = Checkpoint(path, cell.key, source).load(torch.device("cpu"))
        if saved is not None:
            steps, num_steps = saved["steps"][-1], int(cell.task.settings["num_steps"])
            place = f"step {steps:,} of {num_steps:,}"
            if each := protocol.steps_per_epoch:
                place = f"epoch {steps / each:.1f} of {num_steps / each:.0f}"
            return f"reached {100 * max(saved['scores']):.1f} on validation examples by {place}"
    return "no validation score was there yet"
