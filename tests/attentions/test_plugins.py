"""Packages that are not there: folders with a module and metadata, on the path of a new Python."""

import os
import subprocess
import sys

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


def install(site, package, source, module):
    """Put a module and the metadata of a package that names it as a plugin into a folder."""
    (site / f"{module}.py").write_text(source)
    info = site / f"{package}-1.5.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.5\n")
    (info / "entry_points.txt").write_text(f"[attnbench.attentions]\n{module} = {module}\n")


def python(site, *words):
    path = os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, *words],
        env={**os.environ, "PYTHONPATH": path, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def site(tmp_path):
    install(tmp_path, "good-package", GOOD, "good_plugin")
    return tmp_path


BUILD = """
import attentions
geometry = attentions.Geometry(num_heads=1, head_dim=2, seq_len=3)
print(attentions.build_attention("mean", geometry, scale=2.0).title)
"""


def test_a_mechanism_that_an_entry_point_names_is_of_the_first_copy_of_the_library_alone(site):
    """It is listed and shown beside our own."""
    code = f"""
import shutil
from pathlib import Path
shutil.copytree(Path(attentions.__file__).parent, {str(site / "copied")!r})
import copied
print("mean" in attentions.attention_names(), "mean" in copied.attention_names(), "§")
import sys
from bench.__main__ import main
"""
    for command in ("list family=other", "list family=exact", "show mean"):
        code += f"sys.argv = ['attnbench', *{command.split()}]\nassert not main()\nprint('§')\n"
    done = python(site, "-W", "error", "-c", BUILD + code)
    built, other, exact, shown, _ = done.stdout.split("§\n")
    assert (built, done.stderr) == ("Mean\nTrue False ", "")
    assert "│ mean " in other and "│ mean " not in exact
    assert shown.startswith("mean  Mean\n") and "The mean of the values." in shown


def test_plugins_that_fail_are_named_and_the_others_are_there(site):
    install(site, "broken-package", BROKEN, "broken_plugin")
    install(site, "quitting-package", "import sys\nsys.exit('not today')\n", "quitting_plugin")
    install(site, "other-package", GOOD.replace('"mean"', '"softmax"'), "other_plugin")
    ours = "print(attentions.attention_class('softmax').__module__)\n"
    done = python(site, "-c", BUILD + ours + "attentions.attention_class('lost')")
    assert done.stdout == "Mean\nattentions.mechanisms.softmax\n"
    warnings, _, error = done.stderr.partition("Traceback")
    assert "The attention plugin 'broken_plugin' (broken_plugin, of broken-package 1.5)" in warnings
    assert "No module named 'a_module_that_nobody_has'" in warnings
    assert "The attention plugin 'quitting_plugin'" in warnings
    assert "is left out: SystemExit: not today" in warnings
    taken = "The attention name 'softmax' is taken by attentions.mechanisms.softmax.Softmax"
    assert taken in warnings
    last = error.splitlines()[-1]
    assert "No attention mechanism is named 'lost'" in last
    assert "plugin 'broken_plugin'" in last and "a_module_that_nobody_has" in last


def test_a_listing_runs_no_plugin_and_survives_those_that_cannot_be_read(site):
    (site / "good_plugin.py").write_text(GOOD + "\nraise SystemExit('was run')\n")
    source = "@register_attention\n" + GOOD.replace("@register", "@") + "def (:\n"
    install(site, "broken-package", source, "broken_plugin")
    install(site, "absent-package", "", "absent_plugin")
    (site / "absent_plugin.py").unlink()
    install(site, "quitting-package", "", "quitting")
    (site / "quitting.py").unlink()
    (site / "quitting").mkdir()
    (site / "quitting" / "__init__.py").write_text("raise SystemExit('not today')\n")
    (site / "quitting" / "inner.py").write_text(GOOD)
    names = site / "quitting-package-1.5.dist-info" / "entry_points.txt"
    names.write_text("[attnbench.attentions]\nquitting = quitting.inner\n")
    done = python(site, "-m", "bench", "list", "all=true")
    assert done.returncode == 0 and "was run" not in done.stderr
    assert "│ mean " in done.stdout and "│ softmax " in done.stdout
    for name in ("broken_plugin", "absent_plugin"):
        assert f"The attention plugin '{name}'" in done.stderr
    assert "not today" not in done.stderr
