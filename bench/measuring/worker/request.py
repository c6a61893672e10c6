"""Requests to workers, with their device and their source tree."""

from __future__ import annotations

from types import ModuleType
from typing import Any

Request = dict[str, Any]
"""Name of a job under ``job``, and its arguments."""


def device_of(request: Request) -> str:
    """The device that a job runs on; all cells of a job have the same."""
    cells = [request.get("cell"), request.get("current"), *request.get("cells", ()), request]
    return str(next(cell["device"] for cell in cells if cell is not None))


def library_at(root: str | None) -> ModuleType | None:
    """Load the `attentions` package of the source tree at `root`; None stands for this tree's."""
    if root is None:
        return None
    from bench.measuring.library import load_library

    return load_library(root)
