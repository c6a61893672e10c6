"""`attnbench new NAME`: a new mechanism and its test, which work and wait to be filled in.

Inside a checkout of this project they go where its own mechanisms are; anywhere else into the
current folder, as a plugin.
"""

from __future__ import annotations

import ast
import importlib.util
import keyword
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from string import Template

from bench.core.cli.errors import ConfigError
from bench.core.cli.files import write_whole
from bench.core.cli.values import run_words, words_and_options
from bench.core.places import CHECKOUT
from bench.studies.catalogue.listing import everything

USAGE = """attnbench new NAME [title=TITLE]
  NAME: lower-case letters, digits and underscores, such as my_attention
  title: what a table's reader sees (the name, in words)"""
_NAME = re.compile(r"[a-z][a-z0-9_]*")
MAX_NAME = 100
"""Largest number of letters of a name, which is used in file names, tables and commands."""
_INSIDE = """\
from torch import Tensor

from ..base import Attention, CallShape, Geometry
from ..capabilities import Capabilities
from ..registry import register_attention"""
_OUTSIDE = """\
from attentions import Attention, CallShape, Capabilities, Geometry, register_attention
from torch import Tensor"""

_MODULE, _TEST = "new_mechanism.txt", "new_test.txt"
"""Templates beside this file."""


@dataclass(frozen=True, kw_only=True)
class Destination:
    """Paths of the two files, and imports that the mechanism needs there."""

    module: Path
    test: Path
    imports: str
    is_plugin: bool


def main(argv: list[str] | None = None) -> int:
    """Write the files and say what to do with them; returns the exit code."""
    return run_words(_write, argv, USAGE)


def _write(words: list[str]) -> int:
    name, title = read_words(words)
    destination = destination_for(name, Path.cwd())
    check_free(name, destination)
    for path, text in files(name, title, destination).items():
        print(write_whole(path, text))
    print(next_steps(name, destination))
    return 0


def read_words(words: list[str]) -> tuple[str, str]:
    """Read the name and the title off the command line.

    Raises:
        ConfigError: no name or several, one that is no module's name, or an unknown option.
    """
    names, options = words_and_options(words, ("title",), USAGE)
    if len(names) != 1:
        given = ", ".join(names) or "none"
        raise ConfigError(f"new takes one name; {given} was given. Usage: {USAGE}")
    name = names[0]
    if not _NAME.fullmatch(name) or keyword.iskeyword(name):
        raise ConfigError(
            f"{name!r} cannot be a mechanism's name: it becomes a module's, so it takes lower-case "
            "letters, digits and underscores, a letter first, and is no word of Python's. "
            "Try my_attention."
        )
    if len(name) > MAX_NAME:
        raise ConfigError(f"{name[:20]}… has {len(name)} letters; a name has {MAX_NAME} at most.")
    title = options.get("title") or name.replace("_", " ").capitalize()
    if len(title) > 2 * MAX_NAME or '"' in title or "\\" in title or not title.isprintable():
        raise ConfigError(
            f"title={title} cannot stand in a source file; leave quotes out, and take "
            f"{2 * MAX_NAME} letters at most."
        )
    return name, title


def destination_for(name: str, here: Path) -> Destination:
    """The folders of this project's checkout if `here` is inside of it, else `here`."""
    root = CHECKOUT
    if (root / "pyproject.toml").is_file() and here.resolve().is_relative_to(root):
        return Destination(
            module=root / "attentions" / "mechanisms" / f"{name}.py",
            test=root / "tests" / "attentions" / "mechanisms" / f"test_{name}.py",
            imports=_INSIDE,
            is_plugin=False,
        )
    return Destination(
        module=here / f"{name}.py",
        test=here / f"test_{name}.py",
        imports=_OUTSIDE,
        is_plugin=True,
    )


def check_free(name: str, destination: Destination) -> None:
    """Refuse a name that is taken.

    Raises:
        ConfigError: a mechanism, a module or a file is called so, or the class would have a name
            that its file uses for something else.
    """
    if name in {entry.name for entry in everything()}:
        raise ConfigError(f"There is a mechanism {name!r} already: attnbench show {name}.")
    for path in (destination.module, destination.test):
        if path.exists():
            raise ConfigError(f"{path} is there already. Choose another name, or remove it.")
    if destination.is_plugin and importlib.util.find_spec(name) is not None:
        raise ConfigError(f"There is a module {name!r} already, which would be hidden by yours.")
    if (cls := class_name(name)) in _used(destination):
        raise ConfigError(
            f"The class of {name!r} would be named {cls}, which Python or its file uses for "
            f"something else. Choose another name, such as my_{name}."
        )


def class_name(name: str) -> str:
    """Name of a mechanism's class: ``MyAttention`` for ``my_attention``."""
    return "".join(part.capitalize() for part in name.split("_"))


def _used(destination: Destination) -> set[str]:
    """Names that the written module reads, its imports among them, and words of Python's."""
    nodes = ast.walk(ast.parse(files("own", "Own", destination)[destination.module]))
    return {node.id for node in nodes if isinstance(node, ast.Name)} | {*keyword.kwlist}


def files(name: str, title: str, destination: Destination) -> dict[Path, str]:
    """Path of each file to write -> its text."""
    words = {
        "name": name,
        "title": title,
        "cls": class_name(name),
        "imports": destination.imports,
        "registers": f"\nimport {name}  # noqa: F401, it registers itself\n"
        * destination.is_plugin,
    }
    return {destination.module: _filled(_MODULE, words), destination.test: _filled(_TEST, words)}


def _filled(file: str, words: dict[str, str]) -> str:
    return Template(Path(__file__).with_name(file).read_text("utf-8")).substitute(words)


def next_steps(name: str, destination: Destination) -> str:
    """Text with the commands to run next."""
    plugin = f" 'plugins=[{name}]'" if destination.is_plugin else ""
    return f"""
It runs as it is, with a placeholder formula. Replace formula, forward, flops, claims and test,
then:
  python -m pytest {destination.test}
  attnbench show {name}{plugin}
  attnbench verify{plugin} conformance=true 'attention=[{name}]'
  attnbench sweep{plugin} 'attention=[softmax,{name}]' seq_len=128 'task=[]'"""


if __name__ == "__main__":
    sys.exit(main())
