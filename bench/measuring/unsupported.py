"""Why a cell cannot be measured: a capability, a shape, a dtype or a compiler that is lacking."""

from __future__ import annotations

from dataclasses import replace

import attentions
from attentions import Capabilities
from attentions.adapters.extras import why_missing
from bench.core.cell import ORIGINAL, Cell
from bench.core.cli.entries import LAYERS
from bench.measuring.costs.estimate import is_foreign
from bench.measuring.device import available_devices, device_named
from bench.measuring.models.support import why_no_model
from bench.measuring.tasks import base as tasks
from bench.measuring.tasks.model import NO_ROPE
from bench.measuring.worker.build import why_unbuildable


def why_unsupported(capabilities: Capabilities, cell: Cell) -> str | None:
    """A sentence saying what a mechanism lacks for a cell; None if nothing."""
    can, name = capabilities, cell.mechanism
    if reason := why_missing(name, can.requires):
        return reason
    if cell.device.partition(":")[0] not in can.devices:
        return f"{name} does not run on {cell.device}; it runs on {', '.join(can.devices)}."
    needs_backward = cell.is_task or cell.timed.has_backward
    if needs_backward and cell.device.partition(":")[0] not in can.backward_devices:
        where = ", ".join(can.backward_devices) or "no device"
        return f"{name} has no backward pass on {cell.device}; it has one on {where}."
    if cell.is_task:
        return _why_not_trained(can, cell)
    if cell.is_model:
        if not can.bidirectional:
            return f"{name} is causal only; images are seen whole."
        return _why_not_in(cell.model.dtype, name, can)
    w = cell.kernel
    if w.contradiction:
        return w.contradiction
    if w.causal and not can.causal:
        return f"{name} has no causal form."
    if not w.causal and not can.bidirectional:
        return f"{name} is causal only."
    if w.scope not in can.scopes:
        return f"{name} owns its projections; it runs at scope {', '.join(can.scopes)} only."
    if w.key_len is not None and not can.cross:
        return f"{name} needs as many keys as queries."
    if w.is_masked and "padding" not in can.masks:
        return f"{name} takes no mask over keys."
    if reason := _why_not_in(w.dtype, name, can):
        return reason
    if w.mode in ("prefill", "decode"):
        if not w.causal:
            return f"{w.mode} runs with causal=true: a token sees what came before it."
        if not can.recurrent:
            return f"{name} keeps no state from which a next token could be decoded."
    if w.mode == "train_step" and w.scope != "layer":
        return "train_step runs at scope layer: a core has nothing to train."
    return None


def _why_not_trained(can: Capabilities, cell: Cell) -> str | None:
    task = tasks.build_task(cell.task.task, cell.task.settings)
    if task.causal and not can.causal:
        return f"{cell.mechanism} has no causal form; {cell.task.label} is causal."
    if not task.causal and not can.bidirectional:
        return f"{cell.mechanism} is causal only; {cell.task.label} is bidirectional."
    if task.recipe.position == "rope" and "core" not in can.scopes:
        return f"{cell.mechanism} {NO_ROPE}"
    return _why_not_in(cell.task.dtype, cell.mechanism, can)


def _why_no_layers(cell: Cell) -> str | None:
    """Why an entry of layers cannot be timed, or does not fit this task's model; None if it can."""
    if not cell.is_task:
        return (
            f"{cell.entry} names a mechanism for each layer of a model; it is trained, not timed."
        )
    task = tasks.task_to_plan(cell.task.task, cell.task.settings)
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


def _why_not_in(dtype: str, name: str, can: Capabilities) -> str | None:
    takes = ", ".join(can.dtypes)
    return None if dtype in can.dtypes else f"{name} does not take {dtype}; it takes {takes}."


def why_not(cell: Cell) -> str | None:
    """Why a cell cannot be measured: a capability it lacks, or a shape it cannot be built for.

    Constructors of plugins are not called here; see `bench.measuring.plan`.
    """
    if LAYERS in cell.hyperparameters:
        reasons = (why_not(part) for part in cell.parts)
        return _why_no_layers(cell) or next(filter(None, reasons), None)
    if cell.is_model and (reason := why_no_model(cell)):
        return reason
    if cell.is_task:
        task = tasks.task_to_plan(cell.task.task, cell.task.settings)
        if task is None or (reason := task.why_no_data()):
            return reason if task else None
    if cell.mechanism != ORIGINAL:
        capabilities = attentions.attention_class(cell.mechanism).capabilities
        if reason := why_unsupported(capabilities, cell):
            return reason
    is_here = cell.device in available_devices()  # False in a dry run for another machine
    if is_here and (reason := device_named(cell.device).why_no_dtype(cell.workload.dtype)):
        return reason
    is_compiled = not cell.is_task and cell.timed.compile == "inductor"
    if is_compiled and (reason := device_named(cell.device).why_not_compiled()):
        return reason
    if not is_foreign(cell):
        return why_unbuildable(cell)
    # Without the plugin, whose code does not run here.
    model = replace(cell, mechanism=ORIGINAL, hyperparameters={})
    return why_unbuildable(model) if cell.is_model else None
