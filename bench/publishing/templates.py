"""The door to Jinja2: prose of pages, and the HTML page, from files beside their modules.

The words of ``page.py`` lie in ``page.md.j2``, a block for each place at which they stand; tables
and figures stay in Python.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Template

_PROSE = ".md.j2"


def prose(module: str, block: str, /, **values: object) -> str:
    """Words of a page, without the line break at their end.

    Args:
        module: ``__file__`` of the module that writes the page.
        block: name of the words in the template beside it.
        values: for the template's holes.

    Raises:
        KeyError: the template has no such block.
        jinja2.UndefinedError: a hole has no value.
    """
    found = template(Path(module).with_suffix(_PROSE))
    return "".join(found.blocks[block](found.new_context(values))).strip("\n")


@cache
def template(path: Path) -> Template:
    """A template of this package; what it is given is escaped in ``.html.j2``."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(path.parent),
        autoescape=path.name.endswith(".html.j2"),
        undefined=StrictUndefined,
        trim_blocks=not path.name.endswith(".html.j2"),
    )
    return environment.get_template(path.name)
