"""Entries with a mechanism for each layer of a model, such as gla three times, then softmax."""

from __future__ import annotations

from collections.abc import Iterator

import attentions
from bench.core.cell import Cell
from bench.core.cli.entries import LAYERS, AttentionEntry
from bench.core.cli.errors import ConfigError, did_you_mean
from bench.core.rows import row_labels, settings_of
from bench.measuring.tasks.base import task_to_plan


def layer_entries(entry: AttentionEntry) -> Iterator[AttentionEntry]:
    """One entry for each layer that an entry names, by a row of conf/attention or a mechanism.

    Raises:
        ConfigError: a name is neither.
    """
    known = {*row_labels(), *attentions.attention_names()}
    for name in entry.hyperparameters[LAYERS]:
        if isinstance(name, (list, tuple)):  # resolved before
            yield AttentionEntry(label=entry.label, mechanism=name[0], hyperparameters=name[1])
            continue
        settings = settings_of(str(name)) or {"mechanism": name}
        if name not in known or LAYERS in settings:
            raise ConfigError(
                f"attention entry {entry.label!r} names the layer {name!r}, which is neither an "
                f"entry of conf/attention with a mechanism nor a mechanism itself. "
                f"{did_you_mean(str(name), known)}"
            )
        mechanism = settings.pop("mechanism")
        yield AttentionEntry(label=name, mechanism=mechanism, hyperparameters=settings)


def why_no_layers(cell: Cell) -> str | None:
    """Why an entry of layers cannot be timed, or does not fit this task's model; None if it can."""
    if not cell.is_task:
        return (
            f"{cell.entry} names a mechanism for each layer of a model; it is trained, not timed."
        )
    task = task_to_plan(cell.task.task, cell.task.settings)
    if task is None:  # the training will say what is wrong with it
        return None
    recipe, num_named = task.recipe, len(cell.parts)
    if recipe.num_layers % num_named:
        return (
            f"{cell.entry} names {num_named} layers, and {cell.task.label} has num_layers="
            f"{recipe.num_layers}; a multiple of {num_named} is needed."
        )
    if recipe.softmax_layers or recipe.match != "none":
        return (
            f"{cell.entry} names its layers; softmax_layers and match are left at their defaults."
        )
    return None
