"""The import rules of docs/architecture.md, read off the source without running it."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Above imports below, never the other way round; rooms on one line do not import each other.
# A step of a sweep may know the types that the step before it hands on, so run stands above plan.
# A sweep ends as a report does, and shows its progress in the words of the tables.
COMMANDS = (
    ("bench.__main__", "bench.models.__main__"),
    ("bench.mechanisms", "bench.models.page", "bench.catalogue"),
    ("bench.sweep",),
    ("bench.report", "bench.regress", "bench.verify", "bench.calibrate"),
    ("bench.selftest",),
    ("bench.catalogue.listing", "bench.gate", "bench.catalogue.page_writer"),
    ("bench.app.progress",),
)
MEASURING = (
    *COMMANDS,
    ("bench.app.command",),
    ("bench.run",),
    ("bench.worker.jobs",),
    ("bench.plan",),
    ("bench.config",),
    ("bench.machine.environment", "bench.estimate", "bench.costs"),
    ("bench.worker.launch", "bench.machine.hardware"),
    ("bench.worker",),
    ("bench.models", "bench.plugins"),
    ("bench.oracle", "bench.measure", "bench.tasks"),
    ("bench.subject",),
    ("bench.inputs", "bench.library"),
    ("attentions",),
)
PROVING = (
    *COMMANDS,
    ("bench.numerics",),
    ("bench.golden.proof", "bench.flops", "bench.conformance", "bench.models.claims"),
    ("bench.golden.build", "bench.model_changes"),
    ("bench.golden.map", "bench.golden.record", "bench.model_arithmetic"),
    ("bench.golden.files", "bench.measure"),
    ("attentions",),
)
PUBLISHING = (*COMMANDS, ("bench.publish",), ("bench.metrics",))
# What both halves stand on, again from above to below.
GROUND = (
    ("bench.store", "bench.machine.calibration", "bench.catalogue.badges", "bench.catalogue.rows"),
    ("bench.record",),
    ("bench.cell",),
    ("bench.app.files",),
    ("bench.app.errors", "bench.statistics", "bench.app.streams", "bench.app.usage", "bench"),
)
ORDERS = (MEASURING, PROVING, PUBLISHING, GROUND)
DOORS = {
    "hydra": "bench.app.command",
    "omegaconf": "bench.app.command",
    "wandb": "bench.publish.wandb",
    "time": "bench.measure.clock",
}
# Packages of extras, which attentions imports where it uses them.
OPTIONAL = ("timm",)
# One room is about a package and imports it at once; whoever imports the room has asked for it.
ABOUT = {"transformers": ("attentions.huggingface", "attentions.integrations.transformers")}
WITHOUT_TORCH = (
    "attentions",
    "attentions.capabilities",
    "attentions.catalogue",
    "attentions.models.catalogue",
    "bench.catalogue.badges",
    "bench.machine.calibration",
    "bench.cell",
    "bench.config",
    "bench.catalogue.listing",
    "bench.metrics",
    "bench.publish",
    "bench.record",
    "bench.report",
    "bench.catalogue.rows",
    "bench.statistics",
    "bench.store",
)


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

    def imports(self) -> list[Import]:
        return list(_imports_in(ast.parse(self.source), self, eager=True))


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


def modules_of(*packages: str) -> dict[str, Module]:
    found = {}
    for package in packages:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            is_package = parts[-1] == "__init__"
            name = ".".join(parts[:-1] if is_package else parts)
            found[name] = Module(name, path.read_text(), is_package)
    return found


MODULES = modules_of("attentions", "bench")


def is_in(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def room_of(name: str) -> str:
    """The most exact place that the map has for a module: itself, or a package that it lies in.

    Of a package that is only a folder of rooms, its own file is as low as can be.
    """
    parts = name.split(".")
    names = (".".join(parts[:end]) for end in range(len(parts), 0, -1))
    room = next((found for found in names if found in ALL_ROOMS and found != "bench"), name)
    return "bench" if room not in ALL_ROOMS and room in PACKAGES else room


def room_entered(target: str) -> str:
    """As `room_of`, for an import: a name that is no module is one that `bench` itself defines."""
    room = room_of(target)
    return room if room in ALL_ROOMS or room in MODULES else room.split(".")[0]


PACKAGES = {name for name, module in MODULES.items() if module.is_package}
ALL_ROOMS = {room for order in ORDERS for line in order for room in line}
FLOOR = {room for line in GROUND for room in line}


def _level(room: str, order: tuple[tuple[str, ...], ...]) -> int | None:
    return next((i for i, line in enumerate(order) if room in line), None)


def may_import(importer: str, imported: str) -> bool:
    """Whether a room may import another: itself, what both halves stand on, or further down."""
    if importer == imported:
        return True
    if imported in FLOOR and importer not in FLOOR:
        return importer != "attentions"
    for order in ORDERS:
        above, below = _level(importer, order), _level(imported, order)
        if above is not None and below is not None and above < below:
            return True
    return False


def wrong_arrows(module: Module) -> list[str]:
    """Imports that go up, sideways, or from one half of the harness into the other."""
    here = room_of(module.name)
    if here not in ALL_ROOMS:
        return [f"{module.name} has no place in the map of {Path(__file__).name}: give it one"]
    return [
        f"{module.name}:{found.line} imports {found.target}, but {here} may not import {there}"
        for found in module.imports()
        if found.target.split(".")[0] in {"attentions", "bench"}
        and not may_import(here, there := room_entered(found.target))
    ]


def closed_doors(module: Module) -> list[str]:
    """Imports of an outside thing that go around its one door."""
    return [
        f"{module.name}:{found.line} imports {package}, whose door is {door}"
        for found in module.imports()
        for package, door in DOORS.items()
        if is_in(found.target, package) and module.name != door
    ]


def foreign_imports(module: Module) -> list[str]:
    """What `attentions` imports besides torch, the standard library and, relatively, itself.

    Packages of an extra may be imported where they are used, not when the module is imported.
    """
    return [
        f"{module.name}:{found.line} imports {found.target}"
        for found in module.imports()
        if not found.relative
        and (root := found.target.split(".")[0]) not in {"torch", *sys.stdlib_module_names}
        and (found.eager or root not in OPTIONAL)
        and not module.name.startswith(ABOUT.get(root, ()) or "-")
    ]


def way_to_torch(start: str, modules: dict[str, Module]) -> list[str]:
    """The chain of eager imports that ends at torch; empty if there is none."""
    chains, seen = [[start]], {start}
    while chains:
        chain = chains.pop(0)
        for found in modules[chain[-1]].imports():
            if not found.eager:
                continue
            if is_in(found.target, "torch"):
                return [*chain, found.target]
            parts = found.target.split(".")
            for end in range(1, len(parts) + 1):  # importing a.b.c runs a and a.b as well
                name = ".".join(parts[:end])
                if name in modules and name not in seen:
                    seen.add(name)
                    chains.append([*chain, name])
    return []


@pytest.mark.parametrize("name", MODULES)
def test_imports_follow_the_arrows_of_the_map(name: str) -> None:
    assert wrong_arrows(MODULES[name]) == []


@pytest.mark.parametrize("name", MODULES)
def test_each_outside_thing_has_one_door(name: str) -> None:
    assert closed_doors(MODULES[name]) == []


def test_a_room_about_a_package_is_imported_by_nobody_else() -> None:
    rooms = tuple(room for names in ABOUT.values() for room in names)
    others = [module for name, module in MODULES.items() if not name.startswith(rooms)]
    assert [i.target for m in others for i in m.imports() if i.target.startswith(rooms)] == []


@pytest.mark.parametrize("name", [name for name in MODULES if is_in(name, "attentions")])
def test_attentions_needs_torch_and_nothing_else(name: str) -> None:
    assert foreign_imports(MODULES[name]) == []


@pytest.mark.parametrize("name", WITHOUT_TORCH)
def test_a_leaderboard_is_made_without_torch(name: str) -> None:
    inside = [module for module in MODULES if is_in(module, name) and name != "attentions"] or [
        name
    ]
    assert [way_to_torch(module, MODULES) for module in inside] == [[]] * len(inside)


def test_the_modules_that_need_no_torch_do_not_load_it() -> None:
    code = f"import sys, {', '.join(WITHOUT_TORCH)}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_wandb_is_imported_only_when_it_is_used() -> None:
    imports = [i for i in MODULES["bench.publish.wandb"].imports() if is_in(i.target, "wandb")]
    assert imports
    assert not any(found.eager for found in imports)


def test_the_architecture_page_names_every_room() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    words = set(re.findall(r"[\w/]+(?:\.py)?", page))
    for room in ALL_ROOMS - {"bench", "attentions"}:
        word = room.rpartition(".")[2].strip("_")
        assert {f"{word}.py", f"{word}/", word} & words, f"{word} is not on docs/architecture.md"


# The rules themselves, on modules that break them.


def test_an_import_that_goes_up_is_found() -> None:
    assert "bench.plan" in wrong_arrows(Module("bench.worker", "from bench.plan import plan"))[0]
    assert "bench.run" in wrong_arrows(Module("bench.plan", "from bench.run import run"))[0]
    assert wrong_arrows(Module("bench.run", "from bench.plan import plan")) == []


def test_an_import_that_goes_sideways_is_found() -> None:
    assert wrong_arrows(Module("bench.measure.flops", "from bench.tasks.base import Task"))
    assert wrong_arrows(Module("bench.report", "from bench import sweep"))
    assert not wrong_arrows(Module("bench.measure.flops", "from bench.measure.clock import Clock"))


def test_an_import_within_a_function_or_for_types_only_still_is_an_arrow() -> None:
    late = "def publish():\n    from bench import run"
    typed = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from bench.run import Run"
    assert len(wrong_arrows(Module("bench.publish.csv", late))) == 1
    assert len(wrong_arrows(Module("bench.metrics.flops", typed))) == 1


def test_the_halves_meet_only_on_the_ground() -> None:
    assert wrong_arrows(Module("bench.metrics.flops", "from bench.measure import flops"))
    assert wrong_arrows(Module("bench.worker", "import bench.publish.markdown"))
    assert wrong_arrows(Module("bench.record", "from bench.run import run"))
    assert not wrong_arrows(Module("bench.metrics.flops", "from bench.record import Record"))


def test_a_room_without_a_place_in_the_map_is_found() -> None:
    assert "no place in the map" in wrong_arrows(Module("bench.helpers", ""))[0]


def test_the_library_of_mechanisms_does_not_know_the_harness() -> None:
    bad = Module("attentions.mechanisms.linear", "from bench.cell import Cell\nimport numpy as np")
    assert len(wrong_arrows(bad)) == 1
    assert len(foreign_imports(bad)) == 2
    absolute = Module("attentions.mechanisms.linear", "from attentions.base import Attention")
    assert len(foreign_imports(absolute)) == 1
    assert (
        foreign_imports(Module("attentions.mechanisms.linear", "from .base import Attention")) == []
    )
    assert foreign_imports(Module("attentions.models.swin", "import timm"))
    assert foreign_imports(Module("attentions.models.swin", "def build():\n    import timm")) == []


def test_a_way_around_a_door_is_found() -> None:
    assert closed_doors(Module("bench.plan", "from omegaconf import DictConfig"))
    assert closed_doors(Module("bench.run", "def wait():\n    import time"))
    assert closed_doors(Module("bench.measure.clock", "import time")) == []


def test_a_chain_of_imports_that_ends_at_torch_is_found() -> None:
    chain = {
        "bench": Module("bench", "", is_package=True),
        "bench.report": Module("bench.report", "from bench.metrics import flops"),
        "bench.metrics": Module("bench.metrics", "", is_package=True),
        "bench.metrics.flops": Module("bench.metrics.flops", "from torch import nn"),
    }
    assert way_to_torch("bench.report", chain)[-1] == "torch.nn"
    late = {"bench.report": Module("bench.report", "def main():\n    import torch")}
    assert way_to_torch("bench.report", late) == []
