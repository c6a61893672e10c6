"""The `attentions` package of another source tree, beside this one's in the same process."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

_ALIAS = "attentions_of_base"


def load_library(root: str | Path) -> ModuleType:
    """The `attentions` package of another tree, by another name; its imports are relative.

    Raises:
        ImportError: there is none, or it does not import.
    """
    if _ALIAS in sys.modules:
        return sys.modules[_ALIAS]
    folder = Path(root) / "attentions"
    spec = importlib.util.spec_from_file_location(
        _ALIAS, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    if spec is None or spec.loader is None or not (folder / "__init__.py").exists():
        raise ImportError(f"{root} has no package attentions")
    module = importlib.util.module_from_spec(spec)
    sys.modules[_ALIAS] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[_ALIAS]
        raise
    return module
