"""Documents on a terminal or in a log, the leaderboard among them."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text as RichText

from bench.core.record import Record
from bench.publishing.conclusions import sentences
from bench.publishing.config import PublishConfig
from bench.publishing.document import (
    Block,
    Bullets,
    Column,
    Command,
    Document,
    Heading,
    Table,
    Text,
)
from bench.publishing.leaderboard import Leaderboard, build_leaderboard
from bench.publishing.markdown import chapters
from bench.publishing.tables import holes_table, machine_words, summary_words
from bench.publishing.versus import versus, versus_lines, versus_sections


def print_leaderboard(board: Leaderboard, config: PublishConfig, console: Console) -> None:
    """Print conclusions, rankings, accuracies, and every cell that is not ok with its reason.

    A narrow console drops the last columns of a table, and a line says so.
    """
    every = chapters(board, config.columns, config.model_columns)
    sections = (block for _, own in every for section in own for block in section.blocks())
    holes = [holes_table(board)] if board.holes else []
    facts = Text(["", *machine_words(board), summary_words(board)])
    blocks: list[Block] = [Text(sentences(board)), *sections, *holes, facts]
    print_document(Document("", blocks), console, whole="leaderboard.md", wraps=True)


def print_versus(records: Sequence[Record], one: str, other: str, console: Console) -> None:
    """Print when one row beats another.

    Raises:
        ConfigError: a row does not exist, or the two share no setting and no task.
    """
    board = build_leaderboard(records)
    found = versus(board, one, other)
    sections = (block for section in versus_sections(found) for block in section.blocks())
    said = Document("", [Text([*versus_lines(found, board)]), *sections])
    print_document(said, console, wraps=True)


def print_files(files: Sequence[Path], notes: Sequence[str], console: Console) -> None:
    """Print notes, and then the path of every file; charts are named by their folder alone."""
    places = dict.fromkeys(file.parent if file.parent.name == "charts" else file for file in files)
    for note in notes:
        console.print(RichText(note), soft_wrap=True)
    for place in places:
        console.print(RichText(f"Wrote {place}"), soft_wrap=True)


_GAP = 2
"""Spaces between two columns."""


def print_document(
    document: Document, console: Console, *, whole: str = "", wraps: bool = False
) -> None:
    """Print headings, texts, commands and tables; a table that is too wide loses its last columns.

    `whole` names what has these columns; with `wraps`, long lines of text are wrapped.
    """
    waiting: list[Heading] = []  # headings with nothing printed below them yet
    left_out: dict[str, None] = {}
    for block in document.blocks:
        if isinstance(block, Heading):
            waiting = [*(above for above in waiting if above.level < block.level), block]
        elif isinstance(block, (Text, Bullets, Table, Command)):
            for heading in waiting:
                console.print(RichText(f"\n{heading.words}", style="bold"))
            waiting = []
        match block:
            case Text(lines) | Bullets(lines):
                for line in lines:
                    console.print(RichText(line), soft_wrap=not wraps)
            case Command(words):
                console.print(RichText(textwrap.indent(words, "    ")), soft_wrap=True)
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
