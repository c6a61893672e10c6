"""A mechanism's docstring, taken apart: formula, words, arguments, hazards and differences.

The docstring is the one home of what is said about a mechanism; tables and pages are views of it.
"""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass, field

_SECTION = re.compile(r"^(Args|Hazards|Differences):\n", re.MULTILINE)
_ARGUMENT = re.compile(r"^(\w+): ", re.MULTILINE)
_GEOMETRY = "geometry"


@dataclass(frozen=True, kw_only=True)
class Block:
    """A paragraph of the words, or an indented formula with its line breaks."""

    text: str
    is_formula: bool = False


@dataclass(frozen=True, kw_only=True)
class Description:
    """What a class says about itself.

    Attributes:
        summary: the first paragraph, often the whole formula.
        body: what follows up to the first section, in order.
        arguments: hyperparameter -> what it is, the geometry left out.
        hazards: where the result is not what one would expect, or gets bad.
        differences: where paper, official code and ours part.
    """

    summary: str
    body: tuple[Block, ...] = ()
    arguments: dict[str, str] = field(default_factory=dict)
    hazards: tuple[str, ...] = ()
    differences: tuple[str, ...] = ()

    @property
    def formula(self) -> str:
        """The indented formulas; the summary where there are none."""
        formulas = [block.text for block in self.body if block.is_formula]
        return "\n".join(formulas) or self.summary


def describe(doc: str) -> Description:
    """Take a docstring apart that is free of its indentation, as `inspect.cleandoc` leaves it."""
    head, *rest = _SECTION.split(doc)
    sections = dict(zip(rest[::2], map(textwrap.dedent, rest[1::2]), strict=True))
    summary, *paragraphs = re.split(r"\n\s*\n", head.strip())
    return Description(
        summary=_joined(summary),
        body=tuple(_block(paragraph) for paragraph in paragraphs),
        arguments=_arguments(sections.get("Args", "")),
        hazards=_items(sections.get("Hazards", "")),
        differences=_items(sections.get("Differences", "")),
    )


def _block(paragraph: str) -> Block:
    if paragraph.startswith(" "):
        return Block(text=textwrap.dedent(paragraph).rstrip(), is_formula=True)
    return Block(text=_joined(paragraph))


def _arguments(section: str) -> dict[str, str]:
    _, *rest = _ARGUMENT.split(section)
    said = dict(zip(rest[::2], map(_joined, rest[1::2]), strict=True))
    return {name: text for name, text in said.items() if name != _GEOMETRY}


def _items(section: str) -> tuple[str, ...]:
    return tuple(_joined(item) for item in re.split(r"^- ", section, flags=re.MULTILINE)[1:])


def _joined(text: str) -> str:
    return " ".join(text.split())
