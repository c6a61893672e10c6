"""The source of both packages, read and not run: which module imports what."""

import ast
import functools
import graphlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Import:
    """One imported name. `eager`: it happens when the importing module is imported."""

    target: str
    line: int
    eager: bool
    relative: bool


@dataclass(frozen=True)
class Module:
    """A source file under the name that it is imported by."""

    name: str
    source: str
    is_package: bool = False

    @functools.cached_property
    def imports(self) -> tuple[Import, ...]:
        return tuple(_imports_in(ast.parse(self.source), self, eager=True))


def _imports_in(node: ast.AST, module: Module, *, eager: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(alias.name, child.lineno, eager, relative=False)
        elif isinstance(child, ast.ImportFrom):
            base = _absolute(child, module)
            for alias in child.names:
                yield Import(f"{base}.{alias.name}", child.lineno, eager, child.level > 0)
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for part in child.body:
                yield from _imports_in(ast.Module([part], []), module, eager=False)
            yield from _imports_in(ast.Module(child.orelse, []), module, eager=eager)
        else:
            inside = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            yield from _imports_in(child, module, eager=eager and not inside)


def _absolute(node: ast.ImportFrom, module: Module) -> str:
    if not node.level:
        return node.module or ""
    parts = module.name.split(".")
    parts = parts[: len(parts) - node.level + module.is_package]
    return ".".join([*parts, *([node.module] if node.module else [])])


def modules_of(*packages: str, root: Path = ROOT) -> dict[str, Module]:
    """Modules of packages below a folder, by name."""
    found = {}
    for package in packages:
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            is_package = parts[-1] == "__init__"
            name = ".".join(parts[:-1] if is_package else parts)
            found[name] = Module(name, path.read_text(), is_package)
    return found


MODULES = modules_of("attentions", "bench")


FLOORS = ("commands", "studies", "measuring", "publishing", "core")
"""Floors of `bench` from above to below; measuring and publishing stand side by side."""


def floor_of(name: str) -> str:
    """The floor of a module of `bench`: the folder of that name, or commands for a file on top."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in FLOORS else "commands"


def folder_room(name: str, modules: dict[str, Module]) -> str:
    """The room of a module: the folder of a floor that it lies in, or itself beside such folders.

    A command's ``__main__`` only starts it, and is no part of the folder.
    """
    parts = name.split(".")
    if parts[-1] == "__main__" or len(parts) < 2:
        return name
    folder = ".".join(parts[: 3 if "bench.studies" in modules and parts[1] in FLOORS else 2])
    return folder if folder in modules else name


def rooms_of(modules: dict[str, Module]) -> dict[str, set[str]]:
    """Room of `bench` -> the other rooms that its modules import."""
    graph: dict[str, set[str]] = {}
    for module in modules.values():
        if not is_in(module.name, "bench"):
            continue
        here = folder_room(module.name, modules)
        arrows = graph.setdefault(here, set())
        for found in module.imports:
            target = found.target if found.target in modules else found.target.rpartition(".")[0]
            if target in modules and is_in(target, "bench"):
                arrows.update({folder_room(target, modules)} - {here})
    return graph


def circles_of_rooms(modules: dict[str, Module]) -> list[str]:
    """Rooms of `bench` that import each other, over however many others, each circle once."""
    graph = rooms_of(modules)
    found = []
    while True:
        try:
            graphlib.TopologicalSorter(graph).prepare()
        except graphlib.CycleError as error:
            found.append(" imports ".join(error.args[1][::-1]))
            last, first = error.args[1][:2]
            graph[first].discard(last)
        else:
            return found


def is_in(name: str, packages: str | tuple[str, ...]) -> bool:
    named = (packages,) if isinstance(packages, str) else packages
    return any(name == package or name.startswith(f"{package}.") for package in named)


def modules_run_by(start: str, modules: dict[str, Module]) -> dict[str, list[str]]:
    """Modules that importing `start` runs, and foreign packages, each with its chain of imports."""
    chains, waiting = {start: [start]}, [start]
    while waiting:
        here = waiting.pop(0)
        for found in modules[here].imports if here in modules else []:
            parts = found.target.split(".")
            # Importing a.b.c runs a and a.b as well.
            for end in range(1, len(parts) + 1) if found.eager else ():
                name = ".".join(parts[:end])
                if name not in chains and (name in modules or end == 1):
                    chains[name] = [*chains[here], name]
                    waiting.append(name)
    return chains


def circles(modules: dict[str, Module]) -> list[str]:
    """Circular imports, those within functions included; each circle once."""
    graph = {}
    for name, module in modules.items():
        targets = [found.target for found in module.imports]
        owners = {to if to in modules else to.rpartition(".")[0] for to in targets}
        graph[name] = owners & modules.keys() - {name}
    found = []
    while True:
        try:
            graphlib.TopologicalSorter(graph).prepare()
        except graphlib.CycleError as error:
            circle = error.args[1]
            graph[circle[1]].discard(circle[0])
            found.append(" > ".join(reversed(circle)))
        else:
            return found
