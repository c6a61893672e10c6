"""Jinja2 templates beside their modules: the prose of pages, and the HTML page.

The text of ``page.py`` is in ``page.md.j2``, a block for each passage; tables and figures stay in
Python. Jinja2 is imported nowhere else.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Template

_PROSE = ".md.j2"


def prose(module: str, block: str, /, **values: object) -> str:
    """Render a block of a page's template, without line breaks around it.

    `module` is the ``__file__`` of the module that writes the page; the template lies beside it.

    Raises:
        KeyError: the template has no such block.
        jinja2.UndefinedError: a variable has no value.
    """
    found = template(Path(module).with_suffix(_PROSE))
    return "".join(found.blocks[block](found.new_context(values))).strip("\n")


@cache
def template(path: Path) -> Template:
    """A template of this package; in ``.html.j2``, values are escaped for HTML."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(path.parent),
        autoescape=path.name.endswith(".html.j2"),
        undefined=StrictUndefined,
        trim_blocks=not path.name.endswith(".html.j2"),
    )
    return environment.get_template(path.name)
