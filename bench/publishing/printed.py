"""Documents and tables on a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text as RichText

from bench.publishing.document import Bullets, Column, Document, Heading, Table, Text

_GAP = 2
"""Spaces between two columns."""


def print_document(
    document: Document, console: Console, *, whole: str = "", wraps: bool = False
) -> None:
    """Print headings, texts and tables; a table that is too wide loses its last columns.

    `whole` names what has these columns; with `wraps`, long lines of text are wrapped.
    """
    waiting: list[Heading] = []  # headings with nothing printed below them yet
    left_out: dict[str, None] = {}
    for block in document.blocks:
        if isinstance(block, Heading):
            waiting = [*(above for above in waiting if above.level < block.level), block]
        elif isinstance(block, (Text, Bullets, Table)):
            for heading in waiting:
                console.print(RichText(f"\n{heading.words}", style="bold"))
            waiting = []
        match block:
            case Text(lines) | Bullets(lines):
                for line in lines:
                    console.print(RichText(line), soft_wrap=not wraps)
            case Table():
                console.print(RichText(f"\n{block.title}" if block.title else "", style="italic"))
                laid = laid_out(block, console.width)
                console.print(laid)
                left_out |= dict.fromkeys(
                    column.title or column.key for column in block.columns[len(laid.columns) :]
                )
    if left_out:
        where = f", in {whole}" if whole else ""
        console.print(f"Columns that did not fit{where}: {', '.join(left_out)}.", style="dim")


def laid_out(table: Table, width: int) -> RichTable:
    """The table for rich: the leading columns that fit into a width in characters.

    Words are wrapped, never cut. The columns of words and the first column of numbers are always
    kept. Numbers are not wrapped.
    """
    texts = table.texts()
    # A column's border is one space wide, so the padding is the rest of the gap.
    found = RichTable(box=box.SIMPLE_HEAD, padding=(0, _GAP - 1, 0, 0), pad_edge=False)
    found.show_edge = False
    used = -_GAP
    for i, column in enumerate(table.columns):
        own = _letters(column, [row[i] for row in texts])
        used += own + _GAP
        if used > width and i > table.num_words:
            break
        # Rich would wrap numbers as well, so it sets the widths of a table of words only.
        fixed = None if table.num_words == len(table.columns) else own
        title = RichText(column.header)
        found.add_column(title, justify=column.align, overflow="fold", width=fixed)
    for row in texts:
        # RichText, so that [1.79, 1.88] is not read as markup.
        found.add_row(*map(RichText, row[: len(found.columns)]))
    return found


def _letters(column: Column, cells: Sequence[str]) -> int:
    """Width of a column in characters; headers wrap at words, cells beyond `most_letters` only."""
    words = column.header.split()
    if limit := column.most_letters:
        words += [word for cell in cells for word in cell.split()]
        cells = [cell[:limit] for cell in cells]
    return max(map(len, [*words, *cells]), default=0)
