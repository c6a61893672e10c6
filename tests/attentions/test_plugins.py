"""Packages that are not there: folders with a module and metadata, on the path of a new Python."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

GOOD = '''
from attentions import Attention, Capabilities, register_attention


@register_attention("mean", title="Mean", source="nobody", capabilities=Capabilities(cross=True))
class Mean(Attention):
    """The mean of the values."""

    def __init__(self, geometry, scale: float = 1.0):
        super().__init__(geometry)
        self.scale = scale

    def forward(self, q, k, v):
        return v.mean(2, keepdim=True).expand(*q.shape[:3], -1) * self.scale

    def flops(self, shape):
        return 0
'''
BROKEN = "import a_module_that_nobody_has\n" + GOOD.replace('"mean"', '"lost"')


def install(site: Path, package: str, source: str, module: str) -> None:
    """Put a module and the metadata of a package that names it as a plugin into a folder."""
    (site / f"{module}.py").write_text(source)
    info = site / f"{package}-1.5.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.5\n")
    (info / "entry_points.txt").write_text(f"[attnbench.attentions]\n{module} = {module}\n")


def python(site: Path, *words: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, *words],
        env={**os.environ, "PYTHONPATH": path, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def site(tmp_path: Path) -> Path:
    install(tmp_path, "good-package", GOOD, "good_plugin")
    return tmp_path


BUILD = """
import attentions
geometry = attentions.Geometry(num_heads=1, head_dim=2, seq_len=3)
print(attentions.build_attention("mean", geometry, scale=2.0).title)
"""


def test_a_mechanism_that_an_entry_point_names_is_built_like_any_other(site: Path) -> None:
    done = python(site, "-W", "error", "-c", BUILD)
    assert (done.stdout, done.stderr) == ("Mean\n", "")


def test_it_is_listed_and_shown_beside_our_own(site: Path) -> None:
    listed = python(site, "-m", "bench", "list", "family=other")
    assert "│ mean " in listed.stdout and listed.stderr == ""
    assert "│ mean " not in python(site, "-m", "bench", "list", "family=exact").stdout
    shown = python(site, "-m", "bench", "show", "mean")
    assert shown.stdout.startswith("mean  Mean\n") and "The mean of the values." in shown.stdout


def test_listing_does_not_run_it(site: Path) -> None:
    (site / "good_plugin.py").write_text(GOOD + "\nraise SystemExit('was run')\n")
    listed = python(site, "-m", "bench", "list", "family=other")
    assert "│ mean " in listed.stdout and "was run" not in listed.stderr


@pytest.fixture(scope="module")
def beside_a_broken_one(
    tmp_path_factory: pytest.TempPathFactory,
) -> subprocess.CompletedProcess[str]:
    """Build the good mechanism, then ask for one whose plugin cannot be imported."""
    site = tmp_path_factory.mktemp("site")
    install(site, "good-package", GOOD, "good_plugin")
    install(site, "broken-package", BROKEN, "broken_plugin")
    return python(site, "-c", BUILD + "attentions.attention_class('lost')")


def test_one_that_cannot_be_imported_is_named_and_the_others_are_there(
    beside_a_broken_one: subprocess.CompletedProcess[str],
) -> None:
    done = beside_a_broken_one
    assert done.stdout == "Mean\n"
    warning, _, _ = done.stderr.partition("Traceback")
    assert "The attention plugin 'broken_plugin' (broken_plugin, of broken-package 1.5)" in warning
    assert "No module named 'a_module_that_nobody_has'" in warning


def test_one_that_ends_the_program_is_left_out_like_any_other(site: Path) -> None:
    install(site, "quitting-package", "import sys\nsys.exit('not today')\n", "quitting_plugin")
    done = python(site, "-c", BUILD)
    assert (done.returncode, done.stdout) == (0, "Mean\n")
    assert "The attention plugin 'quitting_plugin'" in done.stderr
    assert "is left out: SystemExit: not today" in done.stderr


def test_a_listing_survives_a_package_that_ends_the_program(site: Path) -> None:
    install(site, "quitting-package", "", "quitting")
    (site / "quitting.py").unlink()
    (site / "quitting").mkdir()
    (site / "quitting" / "__init__.py").write_text("raise SystemExit('not today')\n")
    (site / "quitting" / "inner.py").write_text(GOOD)
    names = site / "quitting-package-1.5.dist-info" / "entry_points.txt"
    names.write_text("[attnbench.attentions]\nquitting = quitting.inner\n")
    done = python(site, "-m", "bench", "list", "family=other")
    assert done.returncode == 0 and "│ mean " in done.stdout
    assert "is left out: SystemExit: not today" in done.stderr


def test_who_asks_for_a_lost_mechanism_is_told_why_it_is_lost(
    beside_a_broken_one: subprocess.CompletedProcess[str],
) -> None:
    error = beside_a_broken_one.stderr.splitlines()[-1]
    assert "No attention mechanism is named 'lost'" in error
    assert "plugin 'broken_plugin'" in error and "a_module_that_nobody_has" in error


@pytest.mark.parametrize("source", ["def (:\n", None], ids=["no Python", "no file"])
def test_a_listing_survives_a_plugin_that_cannot_be_read(site: Path, source: str | None) -> None:
    install(site, "broken-package", source or "", "broken_plugin")
    if source is None:
        (site / "broken_plugin.py").unlink()
    else:
        source = GOOD.replace("@register", "@") + source
        (site / "broken_plugin.py").write_text("@register_attention\n" + source)
    done = python(site, "-m", "bench", "list")
    assert done.returncode == 0
    assert "│ mean " in done.stdout and "│ softmax " in done.stdout
    assert "The attention plugin 'broken_plugin'" in done.stderr


def test_a_plugin_cannot_take_a_name_that_is_ours(site: Path) -> None:
    install(site, "other-package", GOOD.replace('"mean"', '"softmax"'), "other_plugin")
    code = "import attentions; print(attentions.attention_class('softmax').__module__)"
    done = python(site, "-c", code)
    assert done.stdout == "attentions.mechanisms.softmax\n"
    assert (
        "The attention name 'softmax' is taken by attentions.mechanisms.softmax.Softmax"
        in done.stderr
    )


def test_the_second_copy_of_the_library_leaves_plugins_to_the_first(site: Path) -> None:
    code = f"""
import shutil, sys
import attentions
from pathlib import Path
shutil.copytree(Path(attentions.__file__).parent, {str(site / "copied")!r})
import copied
print("mean" in attentions.attention_names(), "mean" in copied.attention_names())
"""
    done = python(site, "-W", "error", "-c", code)
    assert (done.stdout, done.stderr) == ("True False\n", "")
