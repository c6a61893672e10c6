"""Why a cell cannot be measured: a capability, a shape, data, a package or a compiler is lacking.

Mistakes of the user are errors, anything else is a reason to skip the cell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import nn

import attentions
from attentions import Capabilities
from attentions.adapters.extras import why_missing
from attentions.models import model_info, model_names
from bench.core.cell import ORIGINAL, Cell, KernelWorkload, ModelWorkload
from bench.core.cli.entries import LAYERS
from bench.core.cli.errors import ConfigError, check_known
from bench.core.cli.texts import LIMITS, said_by, visible
from bench.measuring import inputs
from bench.measuring.building import geometry_of, is_foreign
from bench.measuring.device import available_devices, device_named
from bench.measuring.models.subject import is_own, model_on_meta
from bench.measuring.tasks.base import Task, build_task, task_to_plan
from bench.measuring.tasks.match import CannotMatch, matched
from bench.measuring.tasks.model import NO_ROPE

_REFUSALS = (ValueError, TypeError, ImportError)
_MODES = ("forward", "backward", "forward_backward", "train_step")
"""Modes of a whole model."""


def why_not(cell: Cell) -> str | None:
    """Why a cell cannot be measured: a capability it lacks, or a shape it cannot be built for.

    Constructors of plugins are not called here; see `bench.measuring.plan`.
    """
    task = task_of(cell)
    if cell.is_task and task is None:  # training says what is wrong with it
        return None
    if LAYERS in cell.hyperparameters:
        reasons = (_why_not(part, task) for part in cell.parts)
        return _why_no_layers(cell, task) or next(filter(None, reasons), None)
    return _why_not(cell, task)


def task_of(cell: Cell) -> Task | None:
    """The task of a cell that trains, see `task_to_plan`; None for a cell that is timed."""
    return task_to_plan(cell.task.task, cell.task.settings) if cell.is_task else None


def _why_not(cell: Cell, task: Task | None) -> str | None:
    if cell.is_model and (reason := why_no_model(cell)):
        return reason
    if task is not None and (reason := task.why_no_data()):
        return reason
    if cell.mechanism != ORIGINAL:
        capabilities = attentions.attention_class(cell.mechanism).capabilities
        if reason := why_unsupported(capabilities, cell, task):
            return reason
    device = device_named(cell.device)
    is_here = device.name in available_devices()  # False in a dry run for another machine
    if is_here and (reason := device.why_no_dtype(cell.workload.dtype)):
        return reason
    is_compiled = not cell.is_task and cell.timed.compile == "inductor"
    if is_compiled and (reason := device.why_not_compiled()):
        return reason
    if not is_foreign(cell):
        return why_unbuildable(cell, task)
    # Without the plugin, whose code does not run here.
    model = replace(cell, mechanism=ORIGINAL, hyperparameters={})
    return why_unbuildable(model) if cell.is_model else None


def why_unsupported(can: Capabilities, cell: Cell, task: Task | None = None) -> str | None:
    """A sentence saying what a mechanism lacks for a cell, or for its task; None if nothing."""
    name, kind = cell.mechanism, cell.device.partition(":")[0]
    if reason := why_missing(name, can.requires):
        return reason
    if kind not in can.devices:
        return f"{name} does not run on {cell.device}; it runs on {', '.join(can.devices)}."
    if (cell.is_task or cell.timed.has_backward) and kind not in can.backward_devices:
        where = ", ".join(can.backward_devices) or "no device"
        return f"{name} has no backward pass on {cell.device}; it has one on {where}."
    if task := task or task_of(cell):
        return _why_not_trained(can, cell, task)
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


def _why_not_trained(can: Capabilities, cell: Cell, task: Task) -> str | None:
    if task.causal and not can.causal:
        return f"{cell.mechanism} has no causal form; {cell.task.label} is causal."
    if not task.causal and not can.bidirectional:
        return f"{cell.mechanism} is causal only; {cell.task.label} is bidirectional."
    if can.needs_grid and len(set(task.lengths)) > 1:
        return f"{cell.mechanism} needs a grid of tokens; {cell.task.label} has several lengths."
    if task.recipe.position == "rope" and "core" not in can.scopes:
        return f"{cell.mechanism} {NO_ROPE}"
    return _why_not_in(cell.task.dtype, cell.mechanism, can)


def _why_no_layers(cell: Cell, task: Task | None) -> str | None:
    """Why an entry of layers cannot be timed, or does not fit this task's model; None if it can."""
    if task is None:
        return (
            f"{cell.entry} names a mechanism for each layer of a model; it is trained, not timed."
        )
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


def check_models(models: Sequence[str], image_sizes: Sequence[int]) -> None:
    """Refuse unknown models; a user's own is built once, at the first size, to check it.

    Raises:
        ConfigError: names the model and the fault.
    """
    for model in models:
        if is_own(model):
            _check_own(model, image_sizes[0])
            continue
        own = "A model of your own is named as path/to/factory.py:build."
        check_known(model, model_names(), f"model={model} is not known.", own)


def _check_own(model: str, image_size: int) -> None:
    workload = ModelWorkload(
        model=model, image_size=image_size, batch_size=1, dtype="float32", mode="forward"
    )
    cell = Cell(
        entry=ORIGINAL,
        mechanism=ORIGINAL,
        hyperparameters={},
        device="cpu",
        num_threads=1,
        workload=workload,
    )
    try:
        model_on_meta(cell)
    except ValueError as error:
        raise ConfigError(f"model={model}: {said_by(error)}") from error
    except Exception as error:  # a user's code may raise anything
        raise ConfigError(f"model={model} cannot be built: {_words(error)}") from error


def why_no_model(cell: Cell) -> str | None:
    """Reason why a cell's model cannot be built, whatever the mechanism in it; None if it can."""
    w = cell.model
    if w.mode not in _MODES:
        return f"{w.mode} is no mode of a model: images are seen whole; it has {', '.join(_MODES)}."
    if is_own(w.model):
        return None
    return why_missing(w.model, model_info(w.model).requires)


def _why_model_fails(cell: Cell) -> str | None:
    """Why the model cannot be built or run for a cell's size, mechanism or mode; None if it can."""
    try:
        model = model_on_meta(cell)
    except Exception as error:  # a user's code may raise anything; ours only what it documents
        if not (is_own(cell.model.model) or isinstance(error, _REFUSALS)):
            raise
        return f"The model cannot be built: {_words(error)}"
    if cell.model.has_backward and not any(p.requires_grad for p in model.parameters()):
        return (
            f"{cell.model.mode}: the model has no parameter that learns; mode=forward needs none."
        )
    return None


def _words(error: Exception) -> str:
    """Text of an error, with its type unless the text was written for users."""
    said = visible(said_by(error), LIMITS["reason"])
    return said if isinstance(error, ValueError) else f"{type(error).__name__}: {said}"


def why_unbuildable(cell: Cell, task: Task | None = None) -> str | None:
    """Why a constructor refuses a cell's shape; None if it does not. Allocates nothing."""
    if cell.is_model:
        return _why_model_fails(cell)
    try:
        if cell.is_task:
            if (task := task or task_of(cell)) is None:
                return None
            if task.recipe.match != "none":
                cell, _ = matched(cell)
                task = build_task(cell.task.task, cell.task.settings)
        geometry = geometry_of(cell.kernel) if task is None else task.geometry
        with torch.device("meta"):
            module = attentions.build_attention(cell.mechanism, geometry, **cell.hyperparameters)
            if not cell.is_task and cell.kernel.key_len is not None:
                _call_across(module, cell.kernel)
    except CannotMatch as error:
        return str(error)
    except _REFUSALS as error:
        return f"{cell.mechanism} cannot be built: {error}"
    return None


def _call_across(module: nn.Module, workload: KernelWorkload) -> None:
    """Call a mechanism on meta with another number of keys than of queries.

    Raises:
        ValueError: the mechanism refuses these numbers.
    """
    tensors = inputs.make(workload, seed=0, dtype=torch.float32, device=torch.device("meta"))
    try:
        with torch.no_grad():
            module(*tensors[:-1])
    except ValueError:
        raise
    except Exception:  # meta tensors may not be supported; the trial runs on real ones
        return


def build_ordinary(cell: Cell) -> None:
    """Build a mechanism for an ordinary shape; raises only for bad hyperparameters.

    Raises:
        ValueError, TypeError: the hyperparameters are bad.
    """
    can = attentions.attention_class(cell.mechanism).capabilities
    geometry = attentions.Geometry(
        num_heads=4, head_dim=64, seq_len=256, causal=not can.bidirectional
    )
    try:
        attentions.build_attention(cell.mechanism, geometry, **cell.hyperparameters)
    except ImportError:
        return  # a missing package is a reason to skip, not a mistake
