"""Colour, shape and dash of each entry, the same in every chart of a leaderboard."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from bench.publishing.leaderboard import Leaderboard

# Okabe and Ito's colour-blind safe palette, without the yellow that is too pale on white, and three
# more. Softmax is black, controls are grey. Shapes change with every entry, so that consecutive
# entries differ in more than colour; dashes distinguish each nine entries from the nine before.
COLOURS = (
    *("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"),
    *("#7A5195", "#8A8A00", "#882255"),
)
_SHAPES = ("circle", "square", "triangle-up", "diamond")
_DASHES: tuple[list[int], ...] = ([1, 0], [6, 3], [2, 2], [8, 2, 2, 2])
_REFERENCE = "softmax"
_REFERENCE_COLOUR, _CONTROL_COLOUR = "#000000", "#999999"


@dataclass(frozen=True, kw_only=True)
class Style:
    """How an entry is drawn; `dash` and `thickness` are in pixels, for lines only."""

    colour: str
    shape: str
    dash: list[int]
    thickness: float


def styles_of(board: Leaderboard) -> dict[str, Style]:
    """One style per entry, the same in every chart of a board."""
    controls = {row.entry for row in board.rows if row.is_control}
    entries = {row.entry for row in board.rows}
    styles = {
        _REFERENCE: Style(colour=_REFERENCE_COLOUR, shape="circle", dash=_DASHES[0], thickness=3.2)
    }
    for i, entry in enumerate(sorted(controls)):
        dash = _DASHES[1 + i % (len(_DASHES) - 1)]
        shape = _SHAPES[i % len(_SHAPES)]
        styles[entry] = Style(colour=_CONTROL_COLOUR, shape=shape, dash=dash, thickness=1.5)
    return styles | plain_styles(sorted(entries - controls - {_REFERENCE}))


def plain_styles(names: Iterable[str]) -> dict[str, Style]:
    """One style per name, for lines without a reference or controls."""
    return {
        name: Style(
            colour=COLOURS[i % len(COLOURS)],
            shape=_SHAPES[i % len(_SHAPES)],
            dash=_DASHES[i // len(COLOURS) % len(_DASHES)],
            thickness=1.8,
        )
        for i, name in enumerate(names)
    }
