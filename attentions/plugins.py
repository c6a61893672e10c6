"""Plugins: mechanisms of other installed packages, found by entry point. Imports no torch.

A package says in its metadata::

    [project.entry-points."attnbench.attentions"]
    my_attention = "my_package.my_attention"

and the module is imported when mechanisms are looked up, as those of this package are. One that
cannot be imported, or is in `LEFT_OUT`, is left out with a warning that names it, and the others
are there.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from importlib.metadata import Distribution, EntryPoint, distributions, entry_points
from pathlib import Path

GROUP = "attnbench.attentions"

LEFT_OUT: dict[str, str] = {}
"""Modules that are not imported, each with the reason."""


@dataclass(frozen=True, kw_only=True)
class PluginProblem:
    """A plugin that cannot be used, and what it says."""

    plugin: str
    reason: str
    kind: str = "attention"

    def __str__(self) -> str:
        told = f"The {self.kind} plugin {self.plugin} is left out: {self.reason}"
        return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in told)


def installed(group: str = GROUP) -> tuple[EntryPoint, ...]:
    """The entry points of every installed package, sorted by name."""
    try:
        points = [*entry_points(group=group)]
    except Exception:  # a package's file is damaged: the others' are read one by one
        points = [point for package in distributions() for point in _readable(package, group)]
    return tuple(sorted(points, key=lambda point: (point.name, point.value)))


def _readable(package: Distribution, group: str) -> Iterable[EntryPoint]:
    """Entry points of a package; none, and a warning, if they cannot be read."""
    try:
        return package.entry_points.select(group=group)
    except Exception as error:
        words = f"The entry points of {package.name} cannot be read: {error}. Install it again."
        warnings.warn(words, RuntimeWarning, stacklevel=2)
        return ()


def label(point: EntryPoint) -> str:
    """Its name, its module, and the package that it came with."""
    package = f", of {point.dist.name} {point.dist.version}" if point.dist else ""
    return f"{point.name!r} ({point.value}{package})"


def module_of(point: EntryPoint) -> str:
    """The module that an entry point names.

    Raises:
        ImportError: it names none.
    """
    try:
        return point.module
    except AttributeError:
        raise ImportError(f"{point.value!r} names no module.") from None


def load_all(group: str = GROUP) -> tuple[PluginProblem, ...]:
    """Import every plugin, and warn of those that cannot be imported."""
    problems = []
    kind = group.rpartition(".")[2].removesuffix("s")
    for point in installed(group):
        try:
            if reason := LEFT_OUT.get(point.value):
                raise ImportError(reason)
            importlib.import_module(module_of(point))
        except KeyboardInterrupt:  # the user's Ctrl-C, for all that is known here
            raise
        except BaseException as error:  # foreign code: nothing of it may end the others
            reason = f"{type(error).__name__}: {error} Mend it, or uninstall the package."
            problems.append(PluginProblem(plugin=label(point), reason=reason, kind=kind))
            warnings.warn(str(problems[-1]), RuntimeWarning, stacklevel=2)
    return tuple(problems)


def source_files(module: str) -> tuple[Path, ...]:
    """Find a plugin's files without running it: its module's, or all of its package's.

    Raises:
        ImportError: there is no such module, or it has no source.
    """
    spec = _spec(module)
    if spec is None:
        raise ImportError(f"no module named {module!r}")
    if spec.origin is None or not spec.has_location:
        raise ImportError(f"the module {module!r} has no source")
    file = Path(spec.origin)
    return tuple(sorted(file.parent.glob("*.py"))) if file.name == "__init__.py" else (file,)


def _spec(module: str) -> ModuleSpec | None:
    """Find a module as Python does, but without importing the packages that it is in."""
    package, _, name = module.rpartition(".")
    above = _spec(package) if package else None
    path = above.submodule_search_locations if above else None
    if not name or (package and path is None):
        return None
    specs = (finder.find_spec(module, path) for finder in sys.meta_path)
    return next(filter(None, specs), None)
