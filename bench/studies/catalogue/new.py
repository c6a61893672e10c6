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

from bench.core.cli.errors import ConfigError, check_known
from bench.core.cli.files import write_whole
from bench.core.cli.values import run_words, words_and_options
from bench.core.places import CHECKOUT
from bench.studies.catalogue.listing import everything

USAGE = """attnbench new NAME [title=TITLE] [engine=ENGINE]
  NAME: lower-case letters, digits and underscores, such as my_attention
  title: what a table's reader sees (the name, in words)
  engine: none, a forward method of your own; or state, a recurrence over a state (none)"""
_NAME = re.compile(r"[a-z][a-z0-9_]*")
MAX_NAME = 100
"""Largest number of letters of a name, which is used in file names, tables and commands."""


@dataclass(frozen=True, kw_only=True)
class Engine:
    """Templates beside this file, and imports of the mechanism inside and outside a checkout."""

    module: str
    test: str
    inside: str
    outside: str


ENGINES = {
    "none": Engine(
        module="new_mechanism.txt",
        test="new_test.txt",
        inside="""\
from torch import Tensor

from ..base import Attention, CallShape, Geometry
from ..capabilities import Capabilities
from ..registry import register_attention""",
        outside="""\
from attentions import Attention, CallShape, Capabilities, Geometry, register_attention
from torch import Tensor""",
    ),
    "state": Engine(
        module="new_state.txt",
        test="new_state_test.txt",
        inside="""\
from torch import Tensor

from ..base import Geometry
from ..capabilities import Capabilities, Gate
from ..engines.state import StateCore
from ..maths.recurrences.transition import Transition
from ..registry import register_attention""",
        outside="""\
from attentions import Capabilities, Gate, Geometry, StateCore, Transition, register_attention
from torch import Tensor""",
    ),
}


@dataclass(frozen=True, kw_only=True)
class Destination:
    """Paths of the two files, and whether they are a plugin's."""

    module: Path
    test: Path
    is_plugin: bool


def main(argv: list[str] | None = None) -> int:
    """Write the files and say what to do with them; returns the exit code."""
    return run_words(_write, argv, USAGE)


def _write(words: list[str]) -> int:
    name, title, engine = read_words(words)
    destination = destination_for(name, Path.cwd())
    check_free(name, destination, engine)
    for path, text in files(name, title, destination, engine).items():
        print(write_whole(path, text))
    print(next_steps(name, destination))
    return 0


def read_words(words: list[str]) -> tuple[str, str, str]:
    """Read the name, the title and the engine off the command line.

    Raises:
        ConfigError: no name or several, one that is not a module's name, or an unknown option or
            engine.
    """
    names, options = words_and_options(words, ("title", "engine"), USAGE)
    if len(names) != 1:
        given = ", ".join(names) or "none"
        raise ConfigError(f"new takes one name; {given} was given. Usage: {USAGE}")
    name = names[0]
    if not _NAME.fullmatch(name) or keyword.iskeyword(name):
        raise ConfigError(
            f"{name!r} cannot be a mechanism's name: it becomes a module's, so it takes lower-case "
            "letters, digits and underscores, a letter first, and is not a word of Python's. "
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
    engine = options.get("engine", "none")
    check_known(engine, ENGINES, f"engine={engine} is not known.")
    return name, title, engine


def destination_for(name: str, here: Path) -> Destination:
    """The folders of this project's checkout if `here` is inside of it, else `here`."""
    root = CHECKOUT
    if (root / "pyproject.toml").is_file() and here.resolve().is_relative_to(root):
        return Destination(
            module=root / "attentions" / "mechanisms" / f"{name}.py",
            test=root / "tests" / "attentions" / "mechanisms" / f"test_{name}.py",
            is_plugin=False,
        )
    return Destination(
        module=here / f"{name}.py",
        test=here / f"test_{name}.py",
        is_plugin=True,
    )


def check_free(name: str, destination: Destination, engine: str = "none") -> None:
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
    if (cls := class_name(name)) in _used(destination, engine):
        raise ConfigError(
            f"The class of {name!r} would be named {cls}, which Python or its file uses for "
            f"something else. Choose another name, such as my_{name}."
        )


def class_name(name: str) -> str:
    """Name of a mechanism's class: ``MyAttention`` for ``my_attention``."""
    return "".join(part.capitalize() for part in name.split("_"))


def _used(destination: Destination, engine: str) -> set[str]:
    """Names that the written module reads, its imports among them, and words of Python's."""
    nodes = ast.walk(ast.parse(files("own", "Own", destination, engine)[destination.module]))
    return {node.id for node in nodes if isinstance(node, ast.Name)} | {*keyword.kwlist}


def files(name: str, title: str, destination: Destination, engine: str) -> dict[Path, str]:
    """Path of each file to write -> its text."""
    its = ENGINES[engine]
    words = {
        "name": name,
        "title": title,
        "cls": class_name(name),
        "imports": its.outside if destination.is_plugin else its.inside,
        "registers": f"\nimport {name}  # noqa: F401, it registers itself\n"
        * destination.is_plugin,
    }
    filled = _filled(its.module, words), _filled(its.test, words)
    return dict(zip((destination.module, destination.test), filled, strict=True))


def _filled(file: str, words: dict[str, str]) -> str:
    return Template(Path(__file__).with_name(file).read_text("utf-8")).substitute(words)


def next_steps(name: str, destination: Destination) -> str:
    """Text with the commands to run next."""
    plugin = f" 'plugins=[{name}]'" if destination.is_plugin else ""
    return f"""
It runs as it is, with a placeholder formula. Replace formula, methods, claims and test, then:
  python -m pytest {destination.test}
  attnbench show {name}{plugin}
  attnbench verify{plugin} conformance=true 'attention=[{name}]'
  attnbench sweep{plugin} 'attention=[softmax,{name}]' seq_len=128 'task=[]'"""


if __name__ == "__main__":
    sys.exit(main())
