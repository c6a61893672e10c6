"""Entries of a composed configuration: rows and tasks."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bench.core.cli.errors import ConfigError
from bench.core.cli.values import storable, text

LAYERS = "layers"
"""Key of an entry that names a mechanism for each layer of a model. Its cells have it among their
hyperparameters, with a pair of mechanism and hyperparameters per layer; their own mechanism is that
of the first layer."""


@dataclass(frozen=True, kw_only=True)
class AttentionEntry:
    """A leaderboard row: a mechanism and the hyperparameters that are set for it."""

    label: str
    mechanism: str
    hyperparameters: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class TaskEntry:
    """A column of accuracies: a task and its settings."""

    label: str
    task: str
    settings: dict[str, Any]


def read_attention_entries(given: Any) -> list[AttentionEntry]:
    """Read the rows of a composed configuration."""
    if given is None:
        return []
    return [
        AttentionEntry(label=label, mechanism=mechanism, hyperparameters=rest)
        for label, mechanism, rest in _items("attention", "mechanism", given)
    ]


def read_tasks(given: Any) -> list[TaskEntry]:
    """Read the tasks of a composed configuration; lists of settings give one per combination."""
    return [
        TaskEntry(label=f"{label}{words}", task=task, settings=settings)
        for label, task, rest in _items("task", "task", given)
        for words, settings in _variants(f"task.{label}", rest)
    ]


def _variants(name: str, settings: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Suffix of the label, and settings, for each combination of values of settings with lists."""
    axes = {key: value for key, value in settings.items() if isinstance(value, list)}
    for key in (key for key, values in axes.items() if not values):
        raise ConfigError(f"{name}.{key}=[] is empty. Give one value or more.")
    for values in itertools.product(*axes.values()):
        chosen = dict(zip(axes, values, strict=True))
        yield "".join(f" {key}={value}" for key, value in chosen.items()), settings | chosen


def _first_layer(label: str, settings: dict[str, Any]) -> str:
    """Name of an entry's first layer.

    Raises:
        ConfigError: there are no layers, or something else beside them.
    """
    layers = settings[LAYERS]
    if len(settings) > 1 or not isinstance(layers, list) or not layers:
        raise ConfigError(
            f"attention entry {label!r} names layers; it takes a list of entries or mechanisms, as "
            "`layers: [gla, gla, gla, softmax]`, and nothing beside it."
        )
    return str(layers[0])


def _items(key: str, kind: str, given: Any) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Label, registered name, which stands under `kind`, and other settings of each entry."""
    if not isinstance(given, dict) or not all(isinstance(v, dict) for v in given.values()):
        raise ConfigError(
            f"{key} is {given!r}; entries are chosen by name, e.g. {key}=[NAME], from conf/{key}/."
        )
    for label, settings in given.items():
        rest = dict(settings)
        if kind == "mechanism" and kind not in rest and LAYERS in rest:
            rest[kind] = _first_layer(label, rest)
        name = rest.pop(kind, None)
        if not isinstance(name, str):
            raise ConfigError(
                f"{key} entry {label!r} names no {kind}. Write `{kind}: NAME` under `{label}:` in "
                "its YAML."
            )
        for setting in (one for one in rest if not isinstance(one, str)):
            raise ConfigError(
                f"{key} entry {label!r} sets {setting!r}, and a setting's name is a word. Mend its "
                "YAML."
            )
        storable(f"{key}.{label}", rest)
        yield text(key, str(label)), name, rest
