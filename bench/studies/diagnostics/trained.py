"""Trained models: diagnostics of their queries and keys, and of others in softmax's place."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from attentions import Attention, MultiHeadAttention
from bench.core.cell import Cell
from bench.core.cli.errors import ConfigError
from bench.measuring.device import device_named
from bench.measuring.tasks.base import Batch, Split, Task, build_task
from bench.measuring.tasks.match import matched
from bench.measuring.tasks.model import Backbone, build_model
from bench.measuring.tasks.train import (
    fit,
    score_on_test_set,
)
from bench.measuring.weights import NoWeights
from bench.studies.diagnostics.look import Call, Found, gradients, of_own_norms, of_weights


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A model, the cell that it was trained by at its own size, and the cell's task."""

    cell: Cell
    task: Task
    model: Backbone


def trained_on(cell: Cell, model: Backbone) -> Trained:
    """A cell's trained model with its task, at the size that a matched cell is trained at."""
    cell, _ = matched(cell)
    return Trained(cell=cell, task=build_task(cell.task.task, cell.task.settings), model=model)


def of_model(
    trained: Trained, seed: int, num_examples: int
) -> dict[int, list[tuple[str, str, float | None]]]:
    """Numbers by layer, from a model's own queries and keys on examples of the test set.

    Raises:
        NoWeights: the mechanism owns its projections, or is not linear in v.
    """
    found = {}
    for layer, call in enumerate(own_calls(trained, seed, num_examples)):
        found[layer] = [
            number
            for numbers in (of_weights(call), of_own_norms(call), gradients(call))
            for number in numbers
        ]
    return found


def first_examples(task: Task, seed: int, num_examples: int) -> Batch:
    """The first examples of a test set, from as many of its batches as they take.

    Raises:
        ConfigError: the test set has fewer.
    """
    parts: list[Batch] = []
    found = 0
    for batch in task.batches(Split.TEST, seed):
        parts.append(batch)
        found += len(batch.targets)
        if found >= num_examples:
            return Batch.join(parts).select(slice(num_examples))
    raise ConfigError(
        f"num_examples is {num_examples:,}, and the test set of {task.name} has {found:,} "
        f"examples. Say num_examples={found}, or give the task more."
    )


@torch.no_grad()
def own_calls(trained: Trained, seed: int, num_examples: int) -> list[Call]:
    """Inputs of each layer's core, in float64.

    Raises:
        NoWeights: the mechanism owns its projections.
    """
    model = trained.model.eval()
    cores = [layer.core for layer in _layers(model)]
    seen: list[tuple[tuple[Tensor, ...], Mapping[str, Tensor]]] = []

    def watch(_: nn.Module, inputs: tuple[Tensor, ...], keywords: dict[str, Tensor]) -> None:
        seen.append((inputs, keywords))

    # Before other hooks: rotary positions rotate q and k in one, and do so again in later calls.
    watches = [
        core.register_forward_pre_hook(watch, with_kwargs=True, prepend=True) for core in cores
    ]
    batch = first_examples(trained.task, seed, num_examples)
    try:
        model(batch.inputs, batch.positions)
    finally:
        for handle in watches:
            handle.remove()
    return [
        Call(
            core=_in_float64(core),
            **{name: x.double() for name, x in zip("qkv", inputs, strict=True)},
            gates={name: gate.double() for name, gate in keywords.items()},
        )
        for core, (inputs, keywords) in zip(cores, seen, strict=True)
    ]


def _in_float64(core: Attention) -> Attention:
    return copy.deepcopy(core).double()


def _layers(model: Backbone) -> list[Any]:
    """The layer of projections around each core.

    Raises:
        NoWeights: the mechanism has its own.
    """
    mixers = [block.mixer for block in model.blocks]
    for mixer in mixers:
        if type(mixer) is not MultiHeadAttention:
            name = getattr(mixer, "name", type(mixer).__name__)
            raise NoWeights(f"{name} has no weights to look at: it owns its projections.")
    return mixers


def swapped_in(softmax: Trained, cell: Cell, num_steps: int) -> Found:
    """Scores of a trained softmax model with a mechanism in the place of its attention.

    Everything but the mechanism's own parameters is kept, also the size of a matched softmax. Then
    all is trained for some steps, at a tenth of the mechanism's learning rate and otherwise by
    the task's recipe. For comparison, softmax in its own place goes through the same. Regret is how
    much the score is worse than that of the softmax model before.

    Raises:
        NoWeights: the mechanism owns its projections.
        Diverged: a prediction is not finite.
    """
    own = {"num_steps": num_steps, "learning_rate": cell.task.settings["learning_rate"] / 10}
    task = build_task(cell.task.task, softmax.cell.task.settings | own)
    seed, device = cell.task.seed, device_named(cell.device)
    model = build_model(task, cell.mechanism, cell.hyperparameters, seed).to(device.place)
    _layers(model)  # raises if it owns its projections and cannot take any over
    take_over(softmax.model, model)
    whole = score_on_test_set(softmax.model, task, seed, device.place)
    sign = 1.0 if task.better == "higher" else -1.0
    for when in ("before", "after"):
        score = score_on_test_set(model, task, seed, device.place)
        yield "score in softmax's place", when, score
        yield "drop-in regret", when, sign * (whole - score)
        if when == "before":
            fit(model, task, seed, device)


@torch.no_grad()
def take_over(source: nn.Module, target: nn.Module) -> None:
    """Copy parameters of equal name and shape."""
    known = dict(source.named_parameters())
    for name, own in target.named_parameters():
        old = known.get(name)
        if old is not None and old.shape == own.shape:
            own.copy_(old)
