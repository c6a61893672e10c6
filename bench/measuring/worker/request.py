"""Contents of a request: the device, and the source tree."""

from __future__ import annotations

from types import ModuleType
from typing import Any

Request = dict[str, Any]
"""A job's name under ``job``, and whatever that job takes."""


def device_of(request: Request) -> str:
    """The device that a job runs on; cells of one job share theirs."""
    cells = [request.get("cell"), request.get("current"), *request.get("cells", ()), request]
    return str(next(cell["device"] for cell in cells if cell is not None))


def library_at(root: str | None) -> ModuleType | None:
    """The `attentions` package of another source tree, beside this one's; None for this one's."""
    if root is None:
        return None
    from bench.measuring.library import load_library

    return load_library(root)
