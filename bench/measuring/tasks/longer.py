"""A trained model at lengths that it has not been trained at, and what it keeps of the past."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from types import ModuleType

import torch
from torch import nn

from bench.core.cell import Cell
from bench.core.record import REFERENCE
from bench.measuring.device import device_named
from bench.measuring.states import layer_bytes
from bench.measuring.tasks.base import Task, build_task
from bench.measuring.tasks.model import build_model


def longer_models(
    model: nn.Module, cell: Cell, library: ModuleType | None
) -> Iterator[tuple[Task, nn.Module]]:
    """The same weights around the same mechanism, built for longer examples of the same task.

    Nothing where positions are learned, where the task has no length to set, or where a mechanism
    has weights of its own for each place.
    """
    workload = cell.task
    task = build_task(workload.task, workload.settings)
    if "seq_len" not in workload.settings or task.recipe.position == "learned":
        return
    for factor in task.length_factors:
        longer = workload.settings | {"seq_len": factor * workload.settings["seq_len"]}
        try:
            at_length = build_task(workload.task, longer)
            grown = build_model(
                at_length, cell.mechanism, cell.hyperparameters, workload.seed, library
            )
            grown.load_state_dict(model.state_dict())
        except (ValueError, RuntimeError):  # of another shape
            continue
        yield at_length, grown.to(device_named(cell.device).place)


def state_bytes(task: Task, cell: Cell, library: ModuleType | None) -> int | None:
    """Bytes that all layers keep of one sequence of the task's length in float32, to continue it.

    That is the state after a `step` of so many tokens. None for a mechanism without a recurrent
    form, and where tokens see what comes later.
    """
    if not task.causal:
        return None
    parts = [(part.mechanism, part.hyperparameters) for part in cell.parts]
    layers = [
        (REFERENCE, {}) if is_softmax else parts[layer % len(parts)]
        for layer, is_softmax in enumerate(task.recipe.is_softmax)
    ]
    kept: dict[str, int | None] = {}
    for name, own in layers:
        if str((name, own)) not in kept:
            size = partial(layer_bytes, task.geometry, name, own, task.seq_len)
            kept[str((name, own))] = size(dtype=torch.float32, library=library)
    sizes = [kept[str(layer)] for layer in layers]
    return None if None in sizes else sum(size or 0 for size in sizes)
