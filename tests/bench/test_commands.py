"""Every command answers `--help`, under both names and wherever a page or the Makefile names it."""

import importlib
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from bench.__main__ import COMMANDS, main

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("Makefile", "README.md", "CONTRIBUTING.md", ".ci/run", "results/README.md")


def named():
    """Modules that `python -m` starts by the words of a page, and those of `attnbench`."""
    files = [*(ROOT / page for page in PAGES), *sorted((ROOT / "docs").glob("*.md"))]
    files += sorted((ROOT / ".github" / "workflows").glob("*.yml"))
    words = "\n".join(file.read_text() for file in files)
    found = set(re.findall(r"python -m (bench(?:\.[a-z_]+)+)", words))
    return sorted(found | set(COMMANDS.values()))


@pytest.mark.parametrize("module", named())
def test_a_command_that_is_named_somewhere_answers_help(module, capsys):
    command = importlib.import_module(module)
    assert 'if __name__ == "__main__":' in Path(str(command.__file__)).read_text()
    try:
        code = command.main(["--help"])
    except SystemExit as end:
        code = end.code
    out, err = capsys.readouterr()
    assert (code or 0, err) == (0, "")
    assert out.strip()


@pytest.mark.parametrize("name", sorted(COMMANDS.keys() - {"smoke"}))
def test_a_command_has_a_file_of_its_name(name):
    assert COMMANDS[name] == f"bench.{name}"


def test_a_command_gets_the_words_after_its_name_and_a_smoke_run_its_experiment(
    monkeypatch, tmp_path, exits
):
    seen: list[object] = []

    def imported(module):
        return SimpleNamespace(main=lambda: seen.append((module, *sys.argv[1:])) or 1)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["elsewhere"])
    monkeypatch.setattr(importlib, "import_module", imported)
    for words in (["smoke", "out=x"], ["list"]):
        monkeypatch.setattr(sys, "argv", ["attnbench", *words])
        assert main() == 1
    assert seen == [("bench.sweep", "experiment=smoke", "out=x"), ("bench.list",)]
    assert sys.path == ["elsewhere", str(tmp_path)], "a user's plugins, after all else"
    monkeypatch.setattr(sys, "argv", ["attnbench", "swep"])
    assert "'swep' is not a command. Did you mean sweep?" in exits(2, main())
