"""Optional packages: which extra brings them, and a message where one is missing."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterable
from typing import Any

import torch

EXTRAS = {
    "fla": "fla",
    "flash_attn": "flash-attn",
    "xformers": "xformers",
    "performer_pytorch": "peers",
    "linformer": "peers",
    "nystrom_attention": "peers",
    "timm": "models",
    "onnx": "runtimes",
    "onnxruntime": "runtimes",
}
"""Package as it is imported -> the extra of this project that installs it."""


def not_installed(mechanism: str, package: str) -> str:
    """A sentence that names the package and, where there is one, the extra."""
    extra = EXTRAS.get(package)
    how = f": pip install 'attnbench[{extra}]'" if extra else ""
    return f"{mechanism} needs the package {package}, which is not installed{how}."


def why_missing(mechanism: str, packages: Iterable[str]) -> str | None:
    """The sentence about the first package that is not installed; None if all are."""
    absent = (package for package in packages if importlib.util.find_spec(package) is None)
    return next((not_installed(mechanism, package) for package in absent), None)


def load(mechanism: str, module: str, name: str) -> Any:
    """A function or class of an optional package.

    None for a mechanism that is built on meta tensors: it is there for its formulas, which need no
    package.

    Raises:
        ImportError: the package is missing, in which case the message names the extra, cannot be
            imported, or has no such name.
    """
    if torch.get_default_device().type == "meta":
        return None
    package = module.partition(".")[0]
    try:
        found = importlib.import_module(module)
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) and error.name == package:
            raise ImportError(not_installed(mechanism, package)) from error
        raise ImportError(
            f"{mechanism} needs {module}, which is installed and cannot be imported: {error}"
        ) from error
    if not hasattr(found, name):
        raise ImportError(
            f"{mechanism} needs {module}.{name}, which the version that is installed does not have."
        )
    return getattr(found, name)
