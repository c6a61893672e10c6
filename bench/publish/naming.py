"""What a row is called: its entry, and what sets it apart where one entry was set in two ways."""

from __future__ import annotations

import json
from collections.abc import Iterable

from bench.cell import Cell

Names = dict[str, str]
"""Name of a row by `identity` of its cell."""


def identity(cell: Cell) -> str:
    """Entry, mechanism and hyperparameters as one string."""
    return json.dumps([cell.entry, cell.mechanism, cell.hyperparameters], sort_keys=True)


def row_names(cells: Iterable[Cell]) -> Names:
    """Name each row by its entry, followed by the settings in which it differs from a namesake.

    A store may hold ``performer`` with 64 features and, from another sweep, with 256.
    """
    variants: dict[str, dict[str, Cell]] = {}
    for cell in cells:
        variants.setdefault(cell.entry, {})[identity(cell)] = cell
    names: Names = {}
    for entry, cells_by_identity in variants.items():
        settings = {
            own: {"mechanism": cell.mechanism} | cell.hyperparameters
            for own, cell in cells_by_identity.items()
        }
        keys = sorted({key for values in settings.values() for key in values})
        differing = [
            key
            for key in keys
            if len({json.dumps(values.get(key), sort_keys=True) for values in settings.values()})
            > 1
        ]
        for own, values in settings.items():
            apart = [f"{key}={values.get(key)}" for key in differing]
            names[own] = " ".join([entry, *apart])
    return names
