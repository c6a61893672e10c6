import sys
from importlib.metadata import EntryPoint

import pytest

from attentions import Attention, registry
from attentions import plugins as installed
from bench.core.cli.errors import ConfigError
from bench.measuring import plugins as module
from bench.measuring.plugins import PluginFailed, code_of, import_plugins
from tests.cheats.commands import FATAL


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """Write a module that can be imported while the test runs."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(name, text):
        path = tmp_path / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return path

    yield write
    for name in [name for name in sys.modules if name.startswith("plug_")]:
        del sys.modules[name]


def complaint(name):
    with pytest.raises(ConfigError) as error:
        import_plugins((name,))
    assert f"plugins names {name!r}, which cannot be imported: " in str(error.value)
    return str(error.value)


def test_a_module_that_is_not_there_is_told_from_one_that_misses_another(plugin):
    path = plugin("plug_misses", "import torch\nimport plug_miss\n")
    for absent in ("no_such_plugin", "no_such_plugin.inside", "plug_misses.inside"):
        assert "PYTHONPATH" in complaint(absent) or absent.startswith("plug_misses")
    told = complaint("plug_misses")
    assert "PYTHONPATH" not in told
    assert f"No module named 'plug_miss'\nMend {path}, line 2." in told


@pytest.mark.parametrize(
    ("text", "error", "line"),
    [
        ("x = 1\ndef broken(:\n", "SyntaxError: ", 2),
        ("\n\nx = y\n", "NameError: name 'y' is not defined", 3),
        ("raise ValueError('17 heads')\n", "ValueError: 17 heads", 1),
        ("def f():\n    assert 1 == 2\n\nf()\n", "AssertionError\n", 2),
        ("import sys\nsys.exit(0)\n", "SystemExit: 0", 2),
        ("import json\njson.loads('{')\n", "JSONDecodeError: ", 2),
    ],
)
def test_whatever_it_raises_is_told_with_the_line_of_the_plugin(plugin, text, error, line):
    path = plugin("plug_broken", text)
    told = complaint("plug_broken")
    assert error in told
    assert told.endswith(f"Mend {path}, line {line}.")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (RuntimeError("no \x1b room"), r"RuntimeError: no \x1b room"),
        (ValueError("too few heads"), "too few heads"),
        (SystemExit(0), "SystemExit: 0"),
    ],
)
def test_what_a_plugins_mechanism_raises_is_a_refusal_and_what_ours_raises_a_bug(
    monkeypatch, error, told
):
    mine = type("Mine", (Attention,), {"__module__": "elsewhere"})
    monkeypatch.setitem(registry._REGISTRY, "mine", mine)
    with pytest.raises(PluginFailed) as failed, code_of("mine"):
        raise error
    assert str(failed.value) == told
    with pytest.raises(ConfigError, match="as it is"), code_of("mine"):
        raise ConfigError("as it is")
    if isinstance(error, Exception):
        with pytest.raises(type(error)) as raised, code_of("softmax"):
            raise error
        assert raised.value is error


@pytest.mark.parametrize(("text", "how"), FATAL.values())
def test_a_module_that_would_end_this_process_or_hang_is_refused(plugin, monkeypatch, text, how):
    monkeypatch.setattr(module, "IMPORT_TIMEOUT_S", 3.0)
    name = plugin("plug_fatal", text).stem
    with pytest.raises(ConfigError, match=f"plugins names '{name}', whose import {how}"):
        import_plugins((name,))
    point = EntryPoint("it", name, installed.GROUP)
    monkeypatch.setattr(installed, "LEFT_OUT", {})
    monkeypatch.setattr(installed, "installed", lambda group: (point,) * (group == installed.GROUP))
    module.leave_out_fatal()
    with pytest.warns(RuntimeWarning, match=f"'it' .* is left out: .*its import {how}"):
        installed.load_all()
