"""Names of rows: the entry, followed by settings if it was measured with different ones."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from bench.core.cell import Cell
from bench.core.rows import settings_of
from bench.core.workloads import without_later_hyperparameters

Names = dict[str, str]
"""Name of a row by `identity` of its cell."""


def identity(cell: Cell) -> str:
    """Entry, mechanism, hyperparameters and compiler as one string."""
    own = [cell.entry, _settings(cell), _compiler(cell)]
    return json.dumps(own, sort_keys=True)


def _settings(cell: Cell) -> dict[str, Any]:
    """Mechanism and hyperparameters by name, as the first records had them."""
    settings = without_later_hyperparameters(cell.mechanism, cell.hyperparameters)
    return {"mechanism": cell.mechanism} | settings


def _compiler(cell: Cell) -> str:
    """Name of a cell's compiler; empty for a task or an eager cell."""
    return "" if cell.is_task or cell.timed.compile == "eager" else cell.timed.compile


def row_names(cells: Iterable[Cell]) -> Names:
    """Name each row by its entry, followed by the settings in which it differs from a namesake.

    A store may hold ``performer`` with its default settings and, from another sweep, with 64
    features: ``performer`` and ``performer num_features=64``. The default settings of our own
    entries keep the plain name, and so do the first settings of any other entry: no later sweep
    renames a row. The name of a compiled row ends with its compiler. `cells` are in the order of
    their first measurement.
    """
    variants: dict[str, dict[str, Cell]] = {}
    for cell in cells:
        variants.setdefault(cell.entry, {})[identity(cell)] = cell
    names: Names = {}
    for entry, cells_by_identity in variants.items():
        settings = {own: _settings(cell) for own, cell in cells_by_identity.items()}
        keys = sorted({key for values in settings.values() for key in values})
        differing = [
            key
            for key in keys
            if len({json.dumps(values.get(key), sort_keys=True) for values in settings.values()})
            > 1
        ]
        usual = settings_of(entry) or next(iter(settings.values()))
        usual = without_later_hyperparameters(usual.get("mechanism", ""), usual)
        for own, values in settings.items():
            apart = [] if values == usual else [f"{key}={values.get(key)}" for key in differing]
            compiler = _compiler(cells_by_identity[own])
            names[own] = " ".join([entry, *apart, *([compiler] if compiler else [])])
    return names
