"""Axes × attentions × tasks → cells, checked against the registry before anything is measured.

Shapes are the product of the axes, without contradictory ones.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import attentions
from bench.core.cell import (
    ORIGINAL,
    Cell,
    KernelWorkload,
    ModelWorkload,
    TaskWorkload,
    TimedWorkload,
    Workload,
)
from bench.core.cli.entries import LAYERS, AttentionEntry, TaskEntry
from bench.core.cli.errors import OF_YOUR_OWN, ConfigError, check_known, did_you_mean
from bench.core.cli.values import storable
from bench.core.places import CONF
from bench.core.record import REFERENCE
from bench.core.rows import row_labels, settings_of
from bench.core.workloads import without_later_hyperparameters
from bench.measuring.building import is_foreign
from bench.measuring.config import Axes, SweepConfig
from bench.measuring.costs.estimate import PLUGIN_TIMEOUT_S
from bench.measuring.device import available_devices, device_named
from bench.measuring.plugins import import_plugins
from bench.measuring.support import build_ordinary, check_models, why_not
from bench.measuring.tasks import base as tasks
from bench.measuring.tasks.token_filter import why_not_filtered
from bench.measuring.worker.jobs import Interrupt, Jobs, refusals
from bench.measuring.worker.launch import WorkerServer


@dataclass(frozen=True, kw_only=True)
class PlannedCell:
    """A cell, with the reason if it is already known that it cannot be measured."""

    cell: Cell
    unsupported: str | None = None


def plan(config: SweepConfig, server: WorkerServer | None = None) -> tuple[PlannedCell, ...]:
    """Every cell of a sweep, in the order in which they are reported.

    `server` forks the workers that run plugins' constructors; without it, one is started if needed.

    Raises:
        ConfigError: an unknown mechanism, task, hyperparameter or device, or an empty plan.
    """
    import_plugins(config.plugins)
    entries = (*config.attention, *_more_entries(config))
    whole = (replace(e, hyperparameters=checked_hyperparameters(e)) for e in entries)
    config = config.but(attention=tuple(whole))
    settings = {e.label: checked_settings(e) for e in config.task}
    _refuse_filters(config, settings)
    devices = resolve_devices(config.axes.device, need_present=not config.dry_run)
    timed = config.without(config.task_only)
    check_models(config.axes.model, config.axes.image_size)
    cells = [*_timed_cells(timed, devices)]
    cells += _task_cells(config.without(config.speed_only), settings, devices[0])
    if all(_why_left_out(c, config) for c in cells):
        raise ConfigError("The plan is empty: max_seq_len, task_only or speed_only leaves nothing.")
    planned = [
        PlannedCell(cell=c, unsupported=_why_left_out(c, config) or why_not(c)) for c in cells
    ]
    for entry in config.attention:
        _refuse_unbuildable(entry, [p for p in planned if p.cell.entry == entry.label])
    return _with_plugin_refusals(planned, config, server)


def _more_entries(config: SweepConfig) -> Iterator[AttentionEntry]:
    """Entries for references that have no row yet, so that they become rows as well.

    The default reference, softmax, is timed beside the others without a row of its own.

    Raises:
        ConfigError: `reference` names an unknown row, entry or mechanism.
    """
    labels = [entry.label for entry in config.attention]
    mechanisms = attentions.attention_names()
    for row in config.reference.of:
        words = f"reference names the row {row!r}, and no entry is called that."
        check_known(row, {*labels, *mechanisms, *row_labels()}, words)
    wanted = (config.reference.label_for(label) for label in labels)
    for label in dict.fromkeys([config.reference.usual, *wanted]):
        words = f"reference names {label!r}, which is neither an entry of attention= nor a "
        check_known(label, {*labels, *mechanisms}, f"{words}registered mechanism.")
        if label not in (*labels, REFERENCE):
            yield AttentionEntry(label=label, mechanism=label, hyperparameters={})


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


def checked_hyperparameters(entry: AttentionEntry) -> dict[str, Any]:
    """All hyperparameters of an entry, defaults included.

    Those that were added later are left out at their old value, so that keys of cells stay.
    """
    if LAYERS in entry.hyperparameters:
        return {LAYERS: [[e.mechanism, checked_hyperparameters(e)] for e in layer_entries(entry)]}
    words = f"attention entry {entry.label!r} names the mechanism {entry.mechanism!r}, which is "
    known = attentions.attention_names()
    check_known(entry.mechanism, known, f"{words}not registered.", OF_YOUR_OWN)
    defaults = attentions.hyperparameters(entry.mechanism)
    for name, value in entry.hyperparameters.items():
        if name not in defaults:
            takes = ", ".join(defaults) or "none"
            near = f" {did_you_mean(name, defaults)}" if defaults else ""
            mend = f"attention.{entry.label}.{name}={value}"
            raise ConfigError(
                f"attention entry {entry.label!r} sets {name!r}, which {entry.mechanism} does not "
                f"take.{near} It takes: {takes}.\n"
                f"Mend {_source(entry)}the override {mend}."
            )
    settings = defaults | entry.hyperparameters
    storable(f"attention.{entry.label}", settings)
    try:
        json.dumps(settings)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"attention entry {entry.label!r} has a hyperparameter that no record can hold: "
            f"{error}. {entry.mechanism} takes {', '.join(settings)}; set it to a number, a word, "
            "a list or null."
        ) from error
    return without_later_hyperparameters(entry.mechanism, settings)


def _source(entry: AttentionEntry) -> str:
    """File to mend beside the command line, as words of a message; empty for a default row."""
    if entry.label == entry.mechanism:
        return ""
    file = f"attention/{entry.label}.yaml"
    return f"{f'conf/{file}' if (CONF / file).exists() else f'your {file}'}, or "


def checked_settings(entry: TaskEntry) -> dict[str, Any]:
    """All settings of a task entry, defaults included; the task is built once to check them."""
    words = f"task entry {entry.label!r} names the task {entry.task!r}, which is not registered."
    check_known(entry.task, tasks.task_names(), words, OF_YOUR_OWN)
    settings = tasks.task_settings(entry.task) | entry.settings
    try:
        tasks.task_to_plan(entry.task, settings)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"task entry {entry.label!r}: {error}") from error
    return settings


def _refuse_filters(config: SweepConfig, settings: dict[str, dict[str, Any]]) -> None:
    for entry in config.task if config.token_filter else ():
        task = tasks.task_to_plan(entry.task, settings[entry.label])
        if task and (reason := why_not_filtered(task, config.token_filter)):
            raise ConfigError(f"token_filter beside task={entry.label}, {reason}")


def resolve_devices(given: tuple[str, ...], *, need_present: bool = True) -> tuple[str, ...]:
    """Resolve ``auto`` and ``cuda`` to names of devices, each listed once.

    Raises:
        ConfigError: `need_present`, and this machine lacks one.
    """
    present = available_devices()
    found: list[str] = []
    for name in given:
        wanted = present if name == "auto" else (device_named(name).name,)
        for device in wanted:
            if need_present and device not in present:
                raise ConfigError(
                    f"device={name} is not there. This machine has: {', '.join(present)}."
                )
            found.append(device)
    return tuple(dict.fromkeys(found))


def _cell(
    entry: AttentionEntry, workload: Workload, device: str, num_threads: int, config: SweepConfig
) -> Cell:
    return Cell(
        entry=entry.label,
        mechanism=entry.mechanism,
        hyperparameters=entry.hyperparameters,
        device=device,
        num_threads=num_threads,
        workload=workload,
        plugins=config.plugins,
    )


def _timed_cells(config: SweepConfig, devices: tuple[str, ...]) -> Iterator[Cell]:
    """Shapes with each entry; models with each entry in place of their attention, and unchanged."""
    as_it_is = AttentionEntry(label=ORIGINAL, mechanism=ORIGINAL, hyperparameters={})
    axes, entries = config.axes, config.attention
    shapes: list[TimedWorkload] = [*planned_shapes(axes)]
    models: list[TimedWorkload] = [ModelWorkload(**v) for v in _product(axes, _MODEL_AXES)]
    kernels = itertools.product(devices, axes.num_threads, shapes, entries)
    images = itertools.product(devices, axes.num_threads, models, (as_it_is, *entries))
    for device, num_threads, workload, entry in itertools.chain(kernels, images):
        yield _cell(entry, workload, device, num_threads, config)


def _why_left_out(cell: Cell, config: SweepConfig) -> str | None:
    """Why the sweep's own settings leave a cell out, as a sentence for the table; or None."""
    longest = config.max_seq_len.get(cell.entry)
    if longest is None or not isinstance(cell.workload, KernelWorkload):
        return None
    if cell.workload.seq_len <= longest:
        return None
    return f"left out of this sweep: max_seq_len.{cell.entry} is {longest}."


def _task_cells(
    config: SweepConfig, settings: dict[str, dict[str, Any]], device: str
) -> Iterator[Cell]:
    """Attention × task × seed, on the first device and thread count: a score is not a timing."""
    for task, seed, entry in itertools.product(config.task, config.axes.seed, config.attention):
        shared = settings[task.label]
        work = TaskWorkload(
            label=task.label,
            task=task.task,
            settings=shared,
            seed=seed,
            token_filters=config.token_filter,
            token_keep=config.token_keep if config.token_filter else (),
        )
        usual = tasks.task_settings(task.task)
        about = (entry.mechanism, entry.hyperparameters, shared, usual)
        # Matched by settings, not by label: recall with causal=true is recall_causal.
        preset = next((preset for preset in config.rates if preset.fits(*about)), None)
        if preset is not None:
            work = replace(
                work,
                settings=shared | {"learning_rate": preset.learning_rate},
                shared_rate=shared["learning_rate"],
                is_at_edge=preset.is_at_edge,
            )
        yield _cell(entry, work, device, config.axes.num_threads[0], config)


def reference_cell(cell: Cell, config: SweepConfig | None = None) -> Cell:
    """Reference of a cell: the same workload for the reference entry, never compiled.

    Without `config`, the reference is softmax.
    """
    label = REFERENCE if config is None else config.reference.label_for(cell.entry)
    entry = next((e for e in config.attention if e.label == label), None) if config else None
    if entry is None:
        entry = AttentionEntry(label=label, mechanism=label, hyperparameters={})
    return replace(
        cell.eager,
        entry=label,
        mechanism=entry.mechanism,
        hyperparameters=checked_hyperparameters(entry),
    )


def _refuse_unbuildable(entry: AttentionEntry, planned: list[PlannedCell]) -> None:
    """Refuse bad hyperparameters of our mechanisms; a plugin's are reported in its records."""
    refused = [p.cell for p in planned if "cannot be built" in (p.unsupported or "")]
    try:
        for part in refused[0].parts if refused else ():
            if not is_foreign(part):
                build_ordinary(part)
    except (ValueError, TypeError) as error:
        raise ConfigError(
            f"attention entry {entry.label!r} cannot be built: {error}\n"
            f"Mend {_source(entry)}the override attention.{entry.label}.*"
        ) from error


def _with_plugin_refusals(
    planned: Sequence[PlannedCell], config: SweepConfig, server: WorkerServer | None
) -> tuple[PlannedCell, ...]:
    """The plan, with refusals by plugins' constructors, which run in workers only."""
    foreign = [p.cell for p in planned if p.unsupported is None and is_foreign(p.cell)]
    if not foreign:
        return tuple(planned)
    with nullcontext(server) if server else WorkerServer(config.run.allocator) as workers:
        said = refusals(foreign, Jobs(workers, PLUGIN_TIMEOUT_S, Interrupt()))
    return tuple(replace(p, unsupported=p.unsupported or said.get(p.cell.key)) for p in planned)


_SHAPE_AXES = (
    *("padding", "ragged", "compile", "cache", "scope", "causal", "mode", "dtype"),
    *("batch_size", "num_heads", "num_kv_heads", "head_dim", "key_len", "seq_len"),
)
"""Fields of `KernelWorkload`, the one that changes fastest last."""
_MODEL_AXES = ("compile", "cache", "model", "mode", "dtype", "batch_size", "image_size")
"""Fields of `ModelWorkload`, the one that changes fastest last."""


def planned_shapes(axes: Axes) -> list[KernelWorkload]:
    """The product of the axes, without shapes that contradict themselves.

    Raises:
        ConfigError: all of them do.
    """
    found = _shapes(axes)
    planned = [w for w in found if w.contradiction is None]
    if found and not planned:
        raise ConfigError(" ".join(left_out(axes)) + " Change one of them.")
    return planned


def left_out(axes: Axes) -> dict[str, int]:
    """Contradictions within the product, each with the number of shapes left out for it."""
    return dict(Counter(w.contradiction for w in _shapes(axes) if w.contradiction))


def _shapes(axes: Axes) -> list[KernelWorkload]:
    """The product of the axes, each shape once."""
    found = []
    for values in _product(axes, _SHAPE_AXES):
        if values["key_len"] == values["seq_len"]:
            values["key_len"] = None  # the same cell as without it
        found += [KernelWorkload(**values)] if values["scope"] != "model" else []
    return list(dict.fromkeys(found))


def _product(axes: Axes, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    for values in itertools.product(*(getattr(axes, name) for name in names)):
        yield dict(zip(names, values, strict=True))
