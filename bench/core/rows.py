"""The rows of the leaderboard, by their mechanism, and tasks; read without Hydra.

A mechanism's row of its own name follows from its constructor, unless a YAML has that name. Other
rows, the variants, are YAMLs of conf/attention.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from attentions.catalogue import CatalogueEntry, catalogue, module_catalogue, plugin_catalogue
from bench.core.places import CONF

_FOLDER, _TASKS = CONF / "attention", CONF / "task"
ON_REQUEST = frozenset(
    {
        # other packages' versions, which their users run beside ours
        *("linformer_peer", "nystrom_peer", "performer_peer", "performer_lucidrains"),
        # the paper's text where its code differs, and a gate that later mechanisms do better
        *("nala_cosine_paper", "rfa_gated"),
    }
)
"""Rows, some of them mechanisms, that are tested like all others but not in lists and pages."""


def rows_of(mechanism: str, config_dir: Path | None = None) -> tuple[str, ...]:
    """Labels of a mechanism's rows: its own name first, then its variants.

    `config_dir` is a user's own folder, whose attention/ holds rows as well.
    """
    own = rows_in(config_dir / "attention") if config_dir else ()
    rows = {mechanism} | {label for label, name in (*_variants(), *own) if name == mechanism}
    return tuple(sorted(rows, key=lambda label: (label != mechanism, label)))


def row_labels() -> tuple[str, ...]:
    """Labels of all rows of this project."""
    return tuple(sorted({*default_rows(), *(label for label, _ in _variants())}))


def default_rows() -> dict[str, dict[str, Any]]:
    """Mechanism and hyperparameters of each row that follows from a constructor, by label."""
    return _rows_from(_ours())


def plugin_rows(modules: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Rows that follow from the constructors of plugins, installed or named; none is imported.

    A module that cannot be read gives no rows: importing it later reports the error.
    """
    found = list(plugin_catalogue()[0])
    for module in modules:
        try:
            found += module_catalogue(module)
        except Exception:  # a foreign file, which may be anything
            continue
    return _rows_from(found)


def _rows_from(entries: Iterable[CatalogueEntry]) -> dict[str, dict[str, Any]]:
    return {entry.name: entry.row for entry in entries}


@cache
def recurrent_mechanisms() -> frozenset[str]:
    """Recurrences that this library computes itself, operators of other packages aside."""
    own = (entry for entry in _ours() if not entry.capabilities.requires)
    return frozenset(entry.name for entry in own if entry.family == "recurrent")


@cache
def _ours() -> tuple[CatalogueEntry, ...]:
    return catalogue()


def settings_of(label: str) -> dict[str, Any] | None:
    """Mechanism and hyperparameters, by name, as a YAML or a constructor sets them.

    None for a row that is not of this project: no path is made from an unknown label. Values are
    scalars, or lists of strings.
    """
    settings = _settings(label)
    return None if settings is None else dict(settings)


@cache
def _settings(label: str) -> dict[str, Any] | None:
    if label not in {variant for variant, _ in _variants()}:
        return default_rows().get(label)
    settings = _written(_FOLDER / f"{label}.yaml")
    return default_rows().get(settings.get("mechanism", ""), {}) | settings


def task_settings_of(label: str) -> dict[str, Any] | None:
    """Task and settings, by name, as the YAML of conf/task sets them; None if there is no such."""
    settings = _task_settings(label)
    return None if settings is None else dict(settings)


@cache
def _task_settings(label: str) -> dict[str, Any] | None:
    if label not in {file.stem for file in _TASKS.glob("*.yaml")}:
        return None
    return _written(_TASKS / f"{label}.yaml")


def _written(file: Path) -> dict[str, Any]:
    """Settings of a row or task, below its label; empty if the YAML has none there."""
    try:
        content = yaml.safe_load(file.read_text("utf-8"))
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise ValueError(
            f"{file} cannot be read: {error}. Save it as YAML in UTF-8, or take it out of the "
            "folder."
        ) from error
    settings = content.get(file.stem) if isinstance(content, dict) else None
    return settings if isinstance(settings, dict) else {}


@cache
def _variants() -> tuple[tuple[str, str], ...]:
    return rows_in(_FOLDER)


def rows_in(folder: Path) -> tuple[tuple[str, str], ...]:
    """Label and mechanism of each YAML in a folder; no mechanism where it names layers.

    Raises:
        ValueError: one of them cannot be read; says which.
    """
    read = ((file.stem, _written(file)) for file in sorted(folder.glob("*.yaml")))
    return tuple(
        (label, str(row.get("mechanism", "")))
        for label, row in read
        if row.keys() & {"mechanism", "layers"}
    )
