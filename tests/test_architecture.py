"""The rules of docs/architecture.md, read off the source without running it."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.library_rules import ABOUT, foreign_imports, weather, wrong_arrows_in_the_library
from tests.sources import (
    MODULES,
    ROOT,
    Module,
    circles,
    circles_of_rooms,
    is_in,
    level,
    modules_run_by,
)

# Above imports below, never the other way round; rooms on one line do not import each other.
# A step of a sweep may know the types that the step before it hands on, so run stands above plan.
# A sweep ends as a report does, and shows its progress in the words of the tables.
COMMANDS = (
    ("bench.__main__", "bench.models.__main__"),
    ("bench.catalogue.models_page", "bench.catalogue"),
    ("bench.catalogue.published_sizes",),
    ("bench.reproduce", "bench.explain", "bench.diagnose"),
    ("bench.diagnostics",),
    ("bench.rates",),
    ("bench.sweep",),
    ("bench.report", "bench.regress", "bench.verify", "bench.calibrate"),
    ("bench.validate", "bench.merge", "bench.fsck"),
    ("bench.selftest",),
    (
        "bench.catalogue.listing",
        "bench.gate",
        "bench.ceilings",
        "bench.catalogue.page_writer",
    ),
    ("bench.session",),
    ("bench.engine",),
    ("bench.progress",),
)
MEASURING = (
    *COMMANDS,
    ("bench.app.command",),
    ("bench.app.multirun",),
    ("bench.todo",),
    ("bench.run",),
    ("bench.worker.block", "bench.worker.training"),
    ("bench.plan",),
    ("bench.shapes",),
    ("bench.worker.jobs", "bench.sharing"),
    ("bench.config",),
    ("bench.machine.environment",),
    ("bench.worker.launch", "bench.machine.hardware"),
    ("bench.worker",),
    ("bench.costs",),
    ("bench.models", "bench.plugins"),
    ("bench.checking",),
    ("bench.expected",),
    ("bench.oracle", "bench.measure", "bench.tasks"),
    ("bench.subject",),
    (
        *("bench.inputs", "bench.building", "bench.library", "bench.runners"),
        *("bench.states", "bench.weights"),
    ),
    ("bench.token_gates",),
    ("attentions",),
)
PROVING = (
    *COMMANDS,
    ("bench.numerics",),
    ("bench.golden.proof", "bench.conformance"),
    ("bench.golden.build", "bench.costs"),
    ("bench.golden.map", "bench.golden.record"),
    ("bench.golden.files", "bench.measure"),
    ("attentions",),
)
# The page shows what a mechanism says of itself, which attentions.catalogue reads without torch.
PUBLISHING = (*COMMANDS, ("bench.publish",), ("bench.metrics",), ("attentions",))
# What both halves stand on, again from above to below.
GROUND = (
    ("bench.core.finding", "bench.core.roots"),
    (
        *("bench.store", "bench.machine.calibration", "bench.core.badges"),
        *("bench.core.rows", "bench.core.numbers", "bench.examples"),
    ),
    (
        *("bench.record", "bench.seed_runs"),
        *("bench.core.document", "bench.core.lines", "bench.core.settings"),
    ),
    (
        *("bench.cell", "bench.observed", "bench.app.entries"),
        *("bench.core.grid", "bench.core.presets", "bench.core.facts"),
    ),
    ("bench.app.files", "bench.app.values"),
    ("bench.app.limits", "bench.app.stored_files", "bench.app.temporary", "bench.looks"),
    ("bench.app.errors", "bench.app.streams", "bench.app.usage", "bench.comparison"),
    ("bench.answers",),
    ("bench.app.texts", "bench.statistics", "bench"),
)
ORDERS = (MEASURING, PROVING, PUBLISHING, GROUND)
DOORS = {
    "hydra": "bench.app.command",
    "omegaconf": "bench.app.command",
    "wandb": "bench.publish.sinks.wandb_door",
    "wandb_workspaces": "bench.publish.sinks.workspaces",
    "trackio": "bench.publish.sinks.trackio",
    # Records are checked by one, settings of commands by the other.
    "pydantic": ("bench.app.limits", "bench.core.settings"),
    "time": "bench.measure.clock",
    "jinja2": "bench.publish.page.assemble",
}
WITHOUT_TORCH = (
    "attentions",
    "attentions.capabilities",
    "attentions.catalogue",
    "attentions.models.catalogue",
    "bench.core.badges",
    "bench.core.document",
    "bench.core.lines",
    "bench.core.roots",
    "bench.machine.calibration",
    "bench.cell",
    "bench.config",
    "bench.catalogue.listing",
    "bench.comparison",
    "bench.looks",
    "bench.metrics",
    "bench.publish",
    "bench.record",
    "bench.report",
    "bench.reproduce.command",
    "bench.session",
    "bench.fsck",
    "bench.merge",
    "bench.validate",
    "bench.core.rows",
    "bench.statistics",
    "bench.store",
)


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


def may_import(importer: str, imported: str) -> bool:
    """Whether a room may import another: itself, what both halves stand on, or further down."""
    if importer == imported:
        return True
    if imported in FLOOR and importer not in FLOOR:
        return importer != "attentions"
    for order in ORDERS:
        above, below = level(importer, order), level(imported, order)
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
        for found in module.imports
        if found.target.split(".")[0] in {"attentions", "bench"}
        and not may_import(here, there := room_entered(found.target))
    ]


def closed_doors(module: Module) -> list[str]:
    """Imports of an outside thing that go around its one door."""
    return [
        f"{module.name}:{found.line} imports {package}, whose door is {door}"
        for found in module.imports
        for package, door in DOORS.items()
        if is_in(found.target, package)
        and module.name not in ((door,) if isinstance(door, str) else door)
    ]


def offences(rule: Callable[[Module], list[str]]) -> str:
    """What breaks a rule anywhere, one offence a line."""
    return "\n".join(offence for module in MODULES.values() for offence in rule(module))


def test_imports_follow_the_arrows_of_the_map() -> None:
    assert not (found := offences(wrong_arrows)), found
    assert not (found := offences(wrong_arrows_in_the_library)), found


def test_each_outside_thing_has_one_door() -> None:
    assert not (found := offences(closed_doors)), found
    wandb = [i for i in MODULES[DOORS["wandb"]].imports if is_in(i.target, "wandb")]
    assert wandb
    assert not any(i.eager for i in wandb), "W&B is imported only when it is used"


def test_attentions_needs_torch_and_nothing_else() -> None:
    library = [module for name, module in MODULES.items() if is_in(name, "attentions")]
    found = [offence for module in library for offence in foreign_imports(module)]
    assert not found, "\n".join(found)


def test_attentions_knows_nothing_of_the_machine() -> None:
    assert not (found := offences(weather)), found


def test_the_interface_is_imported_without_any_mechanism() -> None:
    above = ("attentions.kernel", "attentions.mechanisms", "attentions.published")
    runs = modules_run_by("attentions.base", MODULES)
    found = [" > ".join(chain) for name, chain in runs.items() if is_in(name, above)]
    assert not found, "\n".join(found)


def test_a_room_about_a_package_is_imported_by_nobody_else() -> None:
    rooms = tuple(room for names in ABOUT.values() for room in names)
    others = [module for name, module in MODULES.items() if not name.startswith(rooms)]
    assert [i.target for m in others for i in m.imports if i.target.startswith(rooms)] == []


def test_a_leaderboard_is_made_without_torch() -> None:
    starts = [name for name in MODULES if name == "attentions" or is_in(name, WITHOUT_TORCH[1:])]
    chains = [modules_run_by(start, MODULES).get("torch") for start in starts]
    found = [" > ".join(chain) for chain in chains if chain]
    assert not found, "\n".join(found)
    code = f"import sys, {', '.join(WITHOUT_TORCH)}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_no_imports_run_in_a_circle() -> None:
    found = circles(MODULES)
    assert not found, "\n".join(found)


def test_no_two_rooms_import_each_other() -> None:
    found = circles_of_rooms(MODULES)
    assert not found, "\n".join(found)


def test_a_circle_of_rooms_is_found_where_no_two_files_make_one() -> None:
    files = {
        "bench.one.a": "from bench.two.a import x",
        "bench.one.b": "",
        "bench.two.a": "",
        "bench.two.b": "from bench.three import y",
        "bench.three": "def late():\n    from bench.one import b",
        "bench.one.__main__": "from bench.three import y",
    }
    packages = {name: Module(name, "", is_package=True) for name in ("bench.one", "bench.two")}
    modules = packages | {name: Module(name, source) for name, source in files.items()}
    (found,) = circles_of_rooms(modules)
    assert {"bench.one", "bench.two", "bench.three"} == set(found.split(" imports "))
    assert circles_of_rooms(modules | {"bench.three": Module("bench.three", "")}) == []


def test_the_architecture_page_names_every_room() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    words = set(re.findall(r"[\w/]+(?:\.py)?", page))
    for room in ALL_ROOMS - {"bench", "attentions"}:
        word = room.rpartition(".")[2].strip("_")
        assert {f"{word}.py", f"{word}/", word} & words, f"{word} is not on docs/architecture.md"


# The rules themselves, on modules that break them.


def test_an_arrow_that_goes_up_sideways_or_across_is_found() -> None:
    late = "def publish():\n    from bench import run"
    typed = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from bench.run import Run"
    for name, source in (
        ("bench.worker", "from bench.plan import plan"),
        ("bench.plan", "from bench.run import run"),
        ("bench.measure.flops", "from bench.tasks.base import Task"),
        ("bench.report", "from bench import sweep"),
        ("bench.publish.csv", late),
        ("bench.metrics.flops", typed),
        ("bench.metrics.flops", "from bench.measure import flops"),
        ("bench.worker", "import bench.publish.markdown"),
        ("bench.record", "from bench.run import run"),
        ("bench.helpers", ""),
        ("attentions.mechanisms.linear", "from bench.cell import Cell"),
    ):
        assert len(wrong_arrows(Module(name, source))) == 1, (name, source)
    for name, source in (
        ("bench.run", "from bench.plan import plan"),
        ("bench.measure.flops", "from bench.measure.clock import Clock"),
        ("bench.metrics.flops", "from bench.record import Record"),
    ):
        assert not wrong_arrows(Module(name, source)), (name, source)


def test_an_arrow_that_goes_up_within_the_library_is_found() -> None:
    for name, source in (
        ("attentions.base", "from .kernel.attend import attend"),
        ("attentions.base", "def forward():\n    from .mechanisms.softmax import Softmax"),
        ("attentions.maths.decay", "from ..mechanisms.retnet import RetNet"),
        ("attentions.kernel.tiled", "from ..mechanisms.nala import Nala"),
        ("attentions.mechanisms.nala", "from ..adapters.fla import GlaFla"),
        ("attentions.helpers", ""),
    ):
        assert len(wrong_arrows_in_the_library(Module(name, source))) == 1, (name, source)
    for name, source in (
        ("attentions.base", "from .maths.states import what_is_wrong"),
        ("attentions.maths.decay", "from ..precision import widen"),
        ("attentions.mechanisms.nala", "from ..kernel.attend import attend"),
        ("attentions.mechanisms.nala_layer", "from .nala import Nala"),
    ):
        assert not wrong_arrows_in_the_library(Module(name, source)), (name, source)


def test_what_asks_for_the_machine_is_found() -> None:
    for source in (
        "import ctypes",
        "from concurrent.futures import ThreadPoolExecutor",
        "import os\nPOLICY = os.environ.get('OMP_WAIT_POLICY')",
        "from os import environ",
        "import torch\ntorch.set_num_threads(1)",
        "from torch import set_num_threads",
        "import torch\ntorch.backends.cpu.get_cpu_capability()",
        "import torch\ntorch._C._get_tracing_state()",
        "import torch\ntorch.ops.mkldnn._linear_pointwise(x)",
        "from torch._dynamo import disable",
        "def read():\n    return open('sizes')",
        "from pathlib import Path\nPath('/proc/cpuinfo')",
        "libc.call('madvise')",
    ):
        assert len(weather(Module("attentions.mechanisms.nala", source))) == 1, source
    asks = "import torch\ntorch._C._are_functorch_transforms_active()"
    assert not weather(Module("attentions.kernel.applies", asks))
    assert weather(Module("attentions.kernel.tiled", asks))
    assert not weather(Module("attentions.maths.decay", "import torch\ntorch.ops.aten.mul(x, x)"))


def test_what_attentions_may_not_import_is_found() -> None:
    name = "attentions.mechanisms.linear"
    assert len(foreign_imports(Module(name, "from bench.cell import Cell\nimport numpy"))) == 2
    assert len(foreign_imports(Module(name, "from attentions.base import Attention"))) == 1
    assert foreign_imports(Module(name, "from .base import Attention")) == []
    assert foreign_imports(Module("attentions.models.swin", "import timm"))
    assert foreign_imports(Module("attentions.models.swin", "def build():\n    import timm")) == []


def test_a_way_around_a_door_is_found() -> None:
    assert closed_doors(Module("bench.plan", "from omegaconf import DictConfig"))
    assert closed_doors(Module("bench.run", "def wait():\n    import time"))
    assert closed_doors(Module("bench.measure.clock", "import time")) == []


def test_chains_and_circles_of_imports_are_found() -> None:
    chain = {
        "bench": Module("bench", "", is_package=True),
        "bench.report": Module("bench.report", "from bench.metrics import flops"),
        "bench.metrics": Module("bench.metrics", "", is_package=True),
        "bench.metrics.flops": Module("bench.metrics.flops", "from torch import nn"),
    }
    assert modules_run_by("bench.report", chain)["torch"][1:] == ["bench.metrics.flops", "torch"]
    late = {"bench.report": Module("bench.report", "def main():\n    import torch")}
    assert "torch" not in modules_run_by("bench.report", late)
    assert circles(chain) == []
    for source in ("from bench.report import main", "def f():\n    from bench.report import main"):
        back = Module("bench.metrics.flops", source)
        assert len(circles(chain | {"bench.metrics.flops": back})) == 1
