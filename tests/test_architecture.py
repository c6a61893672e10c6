"""The rules of docs/architecture.md, read off the source without running it."""

import re
import subprocess
import sys

from bench.__main__ import COMMANDS
from tests.library_rules import ABOUT, foreign_imports, weather, wrong_arrows_in_the_library
from tests.sources import (
    MODULES,
    ROOT,
    Module,
    arrows_upwards,
    circles,
    circles_of_rooms,
    floor_of,
    is_in,
    modules_run_by,
)
from tools import count

DOORS = {
    "hydra": "bench.core.cli.command",
    "omegaconf": "bench.core.cli.command",
    "yaml": "bench.core.rows",
    "wandb": "bench.publishing.sinks.wandb_door",
    "wandb_workspaces": "bench.publishing.sinks.workspaces",
    "trackio": "bench.publishing.sinks.trackio",
    # Records are checked by one, settings of commands by the other.
    "pydantic": ("bench.core.cli.limits", "bench.core.settings"),
    "time": "bench.core.clock",
    "jinja2": "bench.publishing.templates",
}
WITHOUT_TORCH = (
    "attentions",
    "attentions.capabilities",
    "attentions.catalogue",
    "attentions.models.catalogue",
    "bench.core.proofs",
    "bench.publishing.document",
    "bench.core.lines",
    "bench.studies.roots",
    "bench.core.calibration",
    "bench.core.cell",
    "bench.measuring.config",
    "bench.studies.catalogue.listing",
    "bench.studies.catalogue.showing",
    "bench.core.comparison",
    "bench.studies.reproduce.looks",
    "bench.publishing.metrics",
    "bench.publishing.publish",
    "bench.core.record",
    "bench.report",
    "bench.studies.reproduce.command",
    "bench.studies.session",
    "bench.fsck",
    "bench.merge",
    "bench.validate",
    "bench.core.rows",
    "bench.core.statistics",
    "bench.core.store",
)


def wrong_arrows(module):
    """Imports that go up a floor, or between measuring and publishing.

    In `attentions`, any import of `bench` is one.
    """
    if is_in(module.name, "attentions"):
        return [
            f"{module.name}:{found.line} imports {found.target}"
            for found in module.imports
            if is_in(found.target, "bench")
        ]
    return arrows_upwards(MODULES | {module.name: module}, module.name)


def not_for_a_laptop(module):
    """Imports of torch, or of more of `attentions` than its catalogue, on floors without torch."""
    if not is_in(module.name, "bench") or floor_of(module.name) not in ("core", "publishing"):
        return []
    return [
        f"{module.name}:{found.line} imports {found.target}"
        for found in module.imports
        if is_in(found.target, "torch")
        or (is_in(found.target, "attentions") and not is_in(found.target, "attentions.catalogue"))
    ]


def closed_doors(module):
    """Imports of an outside package in other modules than the one that may import it."""
    return [
        f"{module.name}:{found.line} imports {package}, whose door is {door}"
        for found in module.imports
        for package, door in DOORS.items()
        if is_in(found.target, package)
        and module.name not in ((door,) if isinstance(door, str) else door)
    ]


def offences(rule):
    """All offences against a rule, one per line."""
    return "\n".join(offence for module in MODULES.values() for offence in rule(module))


MOST_LINES = 400
"""Largest number of lines of a file."""


def test_no_file_is_longer_than_is_read_in_one_go():
    files = [
        file for top in ("attentions", "bench", "tests") for file in (ROOT / top).rglob("*.py")
    ]
    sizes = {str(file.relative_to(ROOT)): len(file.read_text().splitlines()) for file in files}
    assert not (found := {name: count for name, count in sizes.items() if count > MOST_LINES}), (
        found
    )


def test_imports_follow_the_arrows_of_the_map():
    assert not (found := offences(wrong_arrows)), found
    assert not (found := offences(wrong_arrows_in_the_library)), found


def test_core_and_publishing_import_no_torch_and_only_the_catalogue_of_attentions():
    assert not (found := offences(not_for_a_laptop)), found
    names = [n for n in MODULES if is_in(n, ("bench.core", "bench.publishing"))]
    code = f"import sys, {', '.join(sorted(names))}; sys.exit('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_every_module_stands_on_a_floor_and_a_command_is_one_file():
    named = {name.partition(".")[2] for name in COMMANDS.values()} | {"models"}
    tops = {n.split(".")[1] for n in MODULES if is_in(n, "bench") and n != "bench"}
    assert tops == {*named, "__main__", "studies", "measuring", "publishing", "core"}


def test_each_outside_thing_has_one_door():
    assert not (found := offences(closed_doors)), found
    wandb = [i for i in MODULES[DOORS["wandb"]].imports if is_in(i.target, "wandb")]
    assert wandb
    assert not any(i.eager for i in wandb), "W&B is imported only when it is used"


def test_attentions_needs_torch_and_nothing_else():
    library = [module for name, module in MODULES.items() if is_in(name, "attentions")]
    found = [offence for module in library for offence in foreign_imports(module)]
    assert not found, "\n".join(found)


def test_attentions_knows_nothing_of_the_machine():
    assert not (found := offences(weather)), found


def test_the_interface_is_imported_without_any_mechanism():
    above = (
        "attentions.engines",
        "attentions.kernel",
        "attentions.mechanisms",
        "attentions.published",
    )
    runs = modules_run_by("attentions.base", MODULES)
    found = [" > ".join(chain) for name, chain in runs.items() if is_in(name, above)]
    assert not found, "\n".join(found)


def test_a_room_about_a_package_is_imported_by_nobody_else_at_once():
    rooms = tuple(room for names in ABOUT.values() for room in names)
    others = [module for name, module in MODULES.items() if not name.startswith(rooms)]
    found = [i for module in others for i in module.imports if i.target.startswith(rooms)]
    assert [i.target for i in found if i.eager] == []


def test_a_leaderboard_is_made_without_torch():
    starts = [name for name in MODULES if name == "attentions" or is_in(name, WITHOUT_TORCH[1:])]
    chains = [modules_run_by(start, MODULES).get("torch") for start in starts]
    found = [" > ".join(chain) for chain in chains if chain]
    assert not found, "\n".join(found)
    code = f"import sys, {', '.join(WITHOUT_TORCH)}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_no_imports_run_in_a_circle():
    found = circles(MODULES)
    assert not found, "\n".join(found)


def test_no_two_rooms_import_each_other():
    found = circles_of_rooms(MODULES)
    assert not found, "\n".join(found)


def test_a_circle_of_rooms_is_found_where_no_two_files_make_one():
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


def test_the_architecture_page_has_the_picture_of_today():
    page = (ROOT / "docs" / "architecture.md").read_text()
    drawn = page.partition("```\n")[2].partition("\n```")[0]
    assert drawn == count.picture(), "docs/architecture.md: paste what tools/count.py draws"


def test_the_newcomers_path_is_short():
    page = (ROOT / "docs" / "architecture.md").read_text()
    path = re.findall(r"^\d\. `(bench/[\w/]+\.py)`", page, re.MULTILINE)
    assert len(path) == 9
    texts = [(ROOT / file).read_text() for file in path]
    assert sum(len(text.splitlines()) for text in texts) <= 2_800
    assert all(text.startswith('"""') for text in texts)


# The rules themselves, on modules that break them.


def test_an_arrow_that_goes_up_or_across_is_found():
    late = "def publish():\n    from bench.measuring import run"
    typed = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from bench.sweep import main"
    for name, source in (
        ("bench.core.cell", "from bench.measuring.plan import plan"),
        ("bench.core.cell", "from bench.publishing.metrics import evaluate"),
        ("bench.measuring.run", "from bench.studies.gate.command import regress"),
        ("bench.measuring.run", "import bench.publishing.markdown"),
        ("bench.publishing.frame", late),
        ("bench.studies.gate.command", typed),
        ("attentions.mechanisms.linear", "from bench.core.cell import Cell"),
    ):
        assert len(wrong_arrows(Module(name, source))) == 1, (name, source)
    for name, source in (
        ("bench.sweep", "from bench.studies.gate.command import regress"),
        ("bench.studies.gate.command", "from bench.publishing.markdown import leaderboard_page"),
        ("bench.studies.gate.command", "from bench.studies.rates.rows import read_rows"),
        ("bench.measuring.run", "from bench.measuring.plan import plan"),
        ("bench.publishing.metrics.flops", "from bench.core.record import Record"),
        ("bench.core.cell", "import bench"),
    ):
        assert not wrong_arrows(Module(name, source)), (name, source)
    assert not_for_a_laptop(Module("bench.publishing.frame", "def f():\n    import torch"))
    assert not_for_a_laptop(Module("bench.core.rows", "from attentions.registry import x"))
    assert not not_for_a_laptop(Module("bench.core.rows", "from attentions.catalogue import x"))


def test_an_arrow_that_goes_up_within_the_library_is_found():
    for name, source in (
        ("attentions.base", "from .kernel.tiles import forward"),
        ("attentions.kernel.tiles", "from ..engines.kernel import KernelCore"),
        ("attentions.base", "def forward():\n    from .mechanisms.softmax import Softmax"),
        ("attentions.maths.decay", "from ..mechanisms.head_decay import RetNet"),
        ("attentions.kernel.tiles", "from ..mechanisms.nala import Nala"),
        ("attentions.mechanisms.nala", "from ..adapters.fla import GlaFla"),
        ("attentions.helpers", ""),
    ):
        assert len(wrong_arrows_in_the_library(Module(name, source))) == 1, (name, source)
    for name, source in (
        ("attentions.base", "from .maths.states import what_is_wrong"),
        ("attentions.maths.decay", "from ..precision import widen"),
        ("attentions.mechanisms.nala", "from ..engines.kernel import KernelCore"),
        ("attentions.engines.kernel", "from ..kernel.tiles import forward"),
        ("attentions.mechanisms.grid_layers", "from .nala import Nala"),
    ):
        assert not wrong_arrows_in_the_library(Module(name, source)), (name, source)


def test_what_asks_for_the_machine_is_found():
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
    assert not weather(Module("attentions.maths.decay", "import torch\ntorch.ops.aten.mul(x, x)"))


def test_what_attentions_may_not_import_is_found():
    name = "attentions.mechanisms.linear"
    assert len(foreign_imports(Module(name, "from bench.core.cell import Cell\nimport numpy"))) == 2
    assert len(foreign_imports(Module(name, "from attentions.base import Attention"))) == 1
    assert foreign_imports(Module(name, "from .base import Attention")) == []
    assert foreign_imports(Module("attentions.models.swin", "import timm"))
    assert foreign_imports(Module("attentions.models.swin", "def build():\n    import timm")) == []


def test_a_way_around_a_door_is_found():
    assert closed_doors(Module("bench.measuring.plan", "from omegaconf import DictConfig"))
    assert closed_doors(Module("bench.measuring.run", "def wait():\n    import time"))
    assert closed_doors(Module("bench.core.clock", "import time")) == []


def test_chains_and_circles_of_imports_are_found():
    chain = {
        "bench": Module("bench", "", is_package=True),
        "bench.report": Module("bench.report", "from bench.publishing.metrics import flops"),
        "bench.publishing.metrics": Module("bench.publishing.metrics", "", is_package=True),
        "bench.publishing.metrics.flops": Module(
            "bench.publishing.metrics.flops", "from torch import nn"
        ),
    }
    assert modules_run_by("bench.report", chain)["torch"][1:] == [
        "bench.publishing.metrics.flops",
        "torch",
    ]
    late = {"bench.report": Module("bench.report", "def main():\n    import torch")}
    assert "torch" not in modules_run_by("bench.report", late)
    assert circles(chain) == []
    for source in ("from bench.report import main", "def f():\n    from bench.report import main"):
        back = Module("bench.publishing.metrics.flops", source)
        assert len(circles(chain | {"bench.publishing.metrics.flops": back})) == 1
