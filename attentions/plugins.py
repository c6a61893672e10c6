"""Plugins: mechanisms of other installed packages, found by entry point. Imports no torch.

A package says in its metadata::

    [project.entry-points."attnbench.attentions"]
    my_attention = "my_package.my_attention"

and the module is imported when mechanisms are looked up, as those of this package are. One that
cannot be imported is left out with a warning that names it, and the others are there.
"""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

GROUP = "attnbench.attentions"


@dataclass(frozen=True, kw_only=True)
class PluginProblem:
    """A plugin that cannot be used, and what it says."""

    plugin: str
    reason: str
    kind: str = "attention"

    def __str__(self) -> str:
        return f"The {self.kind} plugin {self.plugin} is left out: {self.reason}"


def installed(group: str = GROUP) -> tuple[EntryPoint, ...]:
    """The entry points of every installed package, sorted by name."""
    return tuple(sorted(entry_points(group=group), key=lambda point: (point.name, point.value)))


def label(point: EntryPoint) -> str:
    """Its name, its module, and the package that it came with."""
    package = f", of {point.dist.name} {point.dist.version}" if point.dist else ""
    return f"{point.name!r} ({point.module}{package})"


def load_all(group: str = GROUP) -> tuple[PluginProblem, ...]:
    """Import every plugin, and warn of those that cannot be imported."""
    problems = []
    kind = group.rpartition(".")[2].removesuffix("s")
    for point in installed(group):
        try:
            importlib.import_module(point.module)
        except KeyboardInterrupt:  # the user's Ctrl-C, for all that is known here
            raise
        except BaseException as error:  # foreign code: nothing of it may end the others
            reason = f"{type(error).__name__}: {error} Mend it, or uninstall the package."
            problems.append(PluginProblem(plugin=label(point), reason=reason, kind=kind))
            warnings.warn(str(problems[-1]), RuntimeWarning, stacklevel=2)
    return tuple(problems)


def source_files(module: str) -> tuple[Path, ...]:
    """Find a plugin's files without running it: its module's, or all of its package's.

    Of a module inside a package the package is imported, as Python needs it to find the module.

    Raises:
        ImportError: there is no such module, or it has no source.
        ValueError: what is given can be no module's name.
    """
    spec = importlib.util.find_spec(module)
    if spec is None:
        raise ImportError(f"no module named {module!r}")
    if spec.origin is None or not spec.has_location:
        raise ImportError(f"the module {module!r} has no source")
    file = Path(spec.origin)
    return tuple(sorted(file.parent.glob("*.py"))) if file.name == "__init__.py" else (file,)
