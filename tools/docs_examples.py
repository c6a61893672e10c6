"""Extension of griffe, see mkdocs.yml: doctests in docstrings are shown as code.

Markdown would take ``>>>`` for a quotation within quotations.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

_EXAMPLE = re.compile(r"(?:^>>> .*\n(?:.+(?:\n|\Z))*|^>>> .*\Z)", re.MULTILINE)


class Doctests(griffe.Extension):
    """Puts fences around each doctest of a docstring."""

    def on_object(self, *, obj: Any, **_: Any) -> None:
        """Change the docstring of one object, if it has any."""
        if obj.docstring is not None:
            obj.docstring.value = fenced(obj.docstring.value)


def fenced(text: str) -> str:
    """A docstring with each of its doctests, up to the next empty line, between fences."""
    return _EXAMPLE.sub(lambda found: f"```pycon\n{found[0].rstrip()}\n```\n", text)
