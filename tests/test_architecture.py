"""The rules of docs/architecture.md that contracts of import-linter do not express."""

import re
import subprocess
import sys

from importlinter.cli import lint_imports

from bench.__main__ import COMMANDS
from tests.library_rules import ABOUT, foreign_imports, weather
from tests.sources import MODULES, ROOT, Module, circles, circles_of_rooms, is_in, modules_run_by
from tools import count

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


def test_the_contracts_of_pyproject_hold(capfd):
    assert lint_imports(no_cache=True) == 0, capfd.readouterr().out


def test_a_command_is_one_file():
    named = {name.partition(".")[2] for name in COMMANDS.values()} | {"models"}
    tops = {n.split(".")[1] for n in MODULES if is_in(n, "bench") and n != "bench"}
    assert tops == {*named, "__main__", "studies", "measuring", "publishing", "core"}


def test_wandb_is_imported_only_when_it_is_used():
    door = MODULES["bench.publishing.sinks.wandb_door"]
    assert {i.eager for i in door.imports if is_in(i.target, "wandb")} == {False}


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
    assert not weather(
        Module("attentions.maths.recurrences.decay", "import torch\ntorch.ops.aten.mul(x, x)")
    )
