"""Models of equal cost: one size of each is set so that parameters, FLOPs or states are equal.

All sizes are matched to the softmax model, and states to a matrix of D x D per head, as linear
attention keeps. Parameters and FLOPs are made up for in the width of the MLPs; state in
`num_features`, if the mechanism has such a hyperparameter, else in the width of the model.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from types import ModuleType
from typing import Any

from torch import nn

from attentions import CallShape
from bench.core.cell import Cell
from bench.core.record import REFERENCE
from bench.measuring.tasks.base import Task, build_task
from bench.measuring.tasks.longer import state_bytes
from bench.measuring.tasks.model import build_mixer

STATE_TOLERANCE = 0.1
"""The part by which a state may differ from the others: heads have whole channels, so that states
come in steps of about this size. Whole channels of an MLP are finer than a hundredth."""
_MAX_FEATURES = 1024
_MAX_WIDENING = 8  # times the width of the recipe


class CannotMatch(ValueError):
    """No size of this model has the cost of the others; a reason to skip it."""


def matched(cell: Cell, library: ModuleType | None = None) -> tuple[Cell, str]:
    """A training run with the size that its task's ``match`` asks for, and that size in words.

    Itself, and no words, with ``match=none``.

    Raises:
        CannotMatch: none comes near enough.
        ValueError, TypeError: the task or the mechanism cannot be built.
    """
    task = _task(cell)
    match = task.recipe.match
    if match == "none":
        return cell, ""
    if match == "state":
        found, words = _with_state(cell, task, library)
    else:
        hidden = _hidden(cell, task, library)
        found = _with(cell, mlp_ratio=hidden / task.recipe.embed_dim)
        words = f"MLP of {hidden}"
    return _with(found, match="none"), words


def flops_per_example(task: Task, mixers: Iterable[nn.Module]) -> int:
    """FLOPs of all blocks, forward: mechanism, gates, convolution, and the MLP at every token."""
    mlp = 4 * task.seq_len * task.recipe.embed_dim * task.recipe.mlp_width
    return sum(_mixing_flops(task, mixer) + mlp for mixer in mixers)


def _mixing_flops(task: Task, mixer: Any) -> int:
    g, n = task.geometry, task.seq_len
    shape = CallShape(
        batch_size=1,
        num_heads=g.num_heads,
        query_len=n,
        key_len=n,
        head_dim=g.head_dim,
        value_dim=g.value_dim,
        causal=g.causal,
    )
    convolution = 2 * n * task.recipe.embed_dim * task.recipe.conv_width
    return int(mixer.flops(shape)) + convolution * (task.recipe.conv_width > 1)


def _hidden(cell: Cell, task: Task, library: ModuleType | None) -> int:
    """Hidden channels of the MLPs that make up for what the mechanism has more or less."""
    recipe, match = task.recipe, task.recipe.match
    own = build_mixer(task, cell.mechanism, cell.hyperparameters, library=library)
    if match == "params":
        usual = 4 * recipe.embed_dim * (recipe.embed_dim + 1)  # `MultiHeadAttention`, with biases
        more = sum(p.numel() for p in own.parameters()) - usual
        channel = 2 * recipe.embed_dim + 1  # a row, a column and a bias
    else:
        usual = _mixing_flops(task, build_mixer(task, REFERENCE, {}, library=library))
        more = _mixing_flops(task, own) - usual
        channel = 4 * task.seq_len * recipe.embed_dim
    hidden = recipe.mlp_width - round(more / channel)
    if hidden < 1:
        words = {"params": "parameters", "flops": "FLOPs"}[match]
        raise CannotMatch(
            f"match={match} leaves {cell.mechanism} no MLP: its block has {more:,} {words} more "
            f"than that of softmax, and a whole MLP has {recipe.mlp_width * channel:,}."
        )
    return hidden


def _with_state(cell: Cell, task: Task, library: ModuleType | None) -> tuple[Cell, str]:
    attentions: Any = library or importlib.import_module("attentions")
    if not task.causal:
        raise CannotMatch(
            f"match=state: {cell.task.label} is not causal, so nothing keeps a state."
        )
    if attentions.attention_class(cell.mechanism).family == "control":
        return cell, ""
    if state_bytes(task, cell, library) is None:
        raise CannotMatch(f"match=state: {cell.mechanism} keeps no state.")
    g, tried = task.geometry, []
    # a D x D matrix per head in float32, in all layers, at the width of the recipe
    target = 4 * task.recipe.num_layers * g.num_heads * g.head_dim**2
    for name, values, with_size in _sizes_of_state(cell, task):

        def cost(value: int, with_size: Callable[[int], Cell] = with_size) -> int:
            sized = with_size(value)
            return state_bytes(_task(sized), sized, library) or 0

        best, nearest = closest(values, cost, target)
        if abs(nearest / target - 1) <= STATE_TOLERANCE:
            return with_size(best), f"{name} {best}"
        tried.append(f"{nearest:,} with {name}={best}")
    raise CannotMatch(
        f"match=state asks for {target:,} bytes, and {cell.mechanism} comes no nearer than "
        f"{' or '.join(tried)}."
    )


def _sizes_of_state(
    cell: Cell, task: Task
) -> list[tuple[str, Iterable[int], Callable[[int], Cell]]]:
    """Name, values in rising order, and the cell with one of them."""

    def with_features(value: int) -> Cell:
        return replace(cell, hyperparameters=cell.hyperparameters | {"num_features": value})

    def with_width(value: int) -> Cell:
        return _with(cell, embed_dim=value)

    recipe = task.recipe
    step = recipe.num_heads * (2 if recipe.position == "rope" else 1)
    widths = range(step, _MAX_WIDENING * recipe.embed_dim + 1, step)
    sizes: list[tuple[str, Iterable[int], Callable[[int], Cell]]] = []
    if isinstance(cell.hyperparameters.get("num_features"), int):
        sizes.append(("num_features", range(1, _MAX_FEATURES + 1), with_features))
    return [*sizes, ("embed_dim", widths, with_width)]


def closest(values: Iterable[int], cost: Callable[[int], int], target: int) -> tuple[int, int]:
    """The value whose cost is nearest to a target, and its cost; costs rise with values.

    Raises:
        ValueError: the mechanism takes none of the values.
    """
    known: list[tuple[int, int]] = []
    refusal: ValueError | None = None
    for value in values:
        try:
            known.append((value, cost(value)))
        except ValueError as error:  # such as an odd width where halves are needed
            refusal = error
            continue
        if known[-1][1] >= target:
            break
    if not known and refusal is not None:
        raise refusal
    return min(known, key=lambda pair: abs(pair[1] - target))


def _task(cell: Cell) -> Task:
    return build_task(cell.task.task, cell.task.settings)


def _with(cell: Cell, **settings: Any) -> Cell:
    return replace(cell, workload=replace(cell.task, settings=cell.task.settings | settings))
