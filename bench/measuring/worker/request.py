"""Requests to workers, with the device and the source tree that they name."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

Request = dict[str, Any]
"""Name of a job under ``job``, and its arguments."""


def device_of(request: Request) -> str:
    """The device that a job runs on; all cells of a job have the same."""
    cells = [request.get("cell"), request.get("current"), *request.get("cells", ()), request]
    return str(next(cell["device"] for cell in cells if cell is not None))


def library_at(root: str | None) -> ModuleType | None:
    """Load the `attentions` package of the source tree at `root`; None stands for this tree's.

    It has a name of its own, beside this tree's in the same process; its imports are relative.

    Raises:
        ImportError: there is none, or it does not import.
    """
    if root is None:
        return None
    alias = f"attentions_of_{hashlib.sha256(root.encode()).hexdigest()[:8]}"
    if alias in sys.modules:
        return sys.modules[alias]
    folder = Path(root) / "attentions"
    spec = importlib.util.spec_from_file_location(
        alias, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    if spec is None or spec.loader is None or not (folder / "__init__.py").exists():
        raise ImportError(f"{root} has no package attentions")
    module = importlib.util.module_from_spec(spec)
    sys.modules[alias] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[alias]
        raise
    return module
