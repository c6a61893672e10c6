"""The leaderboard in a terminal, or in a log."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from bench.core.record import Record
from bench.publishing.conclusions import sentences
from bench.publishing.config import PublishConfig
from bench.publishing.growth import growth_sections
from bench.publishing.leaderboard import Leaderboard, build_leaderboard
from bench.publishing.tables import (
    MARKS,
    Section,
    Table,
    holes_table,
    machine_words,
    model_sections,
    speed_sections,
    summary_words,
)
from bench.publishing.task_tables import task_sections
from bench.publishing.threads import thread_sections
from bench.publishing.versus import versus, versus_lines, versus_sections

_GAP = 2  # blanks between two columns
_MARKS_WIDTH = 24  # marks are whole phrases, and may go on in a second line


def print_leaderboard(board: Leaderboard, config: PublishConfig, console: Console) -> None:
    """Print conclusions, rankings, accuracies, and every cell that is not ok with its reason.

    Where the console is narrow the last columns are left out, and a line says so.
    """
    sections = [
        *speed_sections(board, config.columns),
        *growth_sections(board),
        *thread_sections(board),
        *model_sections(board, config.model_columns or config.columns),
        *task_sections(board),
    ]
    for sentence in sentences(board):
        console.print(Text(sentence))
    print_sections(sections, console)
    if board.holes:
        holes = holes_table(board)
        console.print()
        console.print(Text(holes.title, style="bold"))
        console.print(_laid_out(holes, len(holes.header)))
    console.print()
    for line in [*machine_words(board), summary_words(board)]:
        console.print(Text(line))
    if any(_num_fitting(t, console.width) < len(t.header) for s in sections for t in s.tables):
        console.print(Text("Columns that did not fit are in leaderboard.md.", style="dim"))


def print_versus(records: Sequence[Record], one: str, other: str, console: Console) -> None:
    """Print when one row beats another.

    Raises:
        ConfigError: a row is not there, or the two have no place in common.
    """
    board = build_leaderboard(records)
    found = versus(board, one, other)
    for line in versus_lines(found, board):
        console.print(Text(line))
    print_sections(versus_sections(found), console)


def print_files(files: Sequence[Path], notes: Sequence[str], console: Console) -> None:
    """Print where everything is, each folder of charts once, and what there is to know about it."""
    places = dict.fromkeys(file.parent if file.parent.name == "charts" else file for file in files)
    for note in notes:
        console.print(Text(note), soft_wrap=True)
    for place in places:
        console.print(Text(f"Wrote {place}"), soft_wrap=True)


def print_sections(sections: Sequence[Section], console: Console) -> None:
    """Print titles, notes and tables; where the console is narrow without the last columns."""
    for section in sections:
        console.print()
        console.print(Text(section.title, style="bold"))
        for note in section.notes:
            console.print(Text(note, style="dim"))
        for table in section.tables:
            console.print()
            console.print(Text(table.title, style="italic"))
            console.print(_laid_out(table, _num_fitting(table, console.width)))


def _laid_out(table: Table, num_shown: int) -> RichTable:
    # A column's border is one blank wide, so the padding is the rest of the gap.
    laid_out = RichTable(box=box.SIMPLE_HEAD, padding=(0, _GAP - 1, 0, 0), pad_edge=False)
    laid_out.show_edge = False
    for i, title in enumerate(table.header[:num_shown]):
        is_text = i < table.num_text
        laid_out.add_column(
            Text(title),
            justify="left" if is_text else "right",
            # Words are folded and never cut: a name or a reason must be readable.
            overflow="fold",
            # Only a table of words is laid out by the library: it would break numbers as well.
            width=None if table.num_text == len(table.header) else _width(table, i),
        )
    for row in table.rows:
        # Text, so that [1.79, 1.88] is not read as markup.
        laid_out.add_row(*(Text(cell) for cell in row[:num_shown]))
    return laid_out


def _width(table: Table, column: int) -> int:
    """Its header may break between words, its cells may not, save marks where they are long."""
    cells = [row[column] for row in table.rows]
    words = table.header[column].split()
    if table.header[column] == MARKS:
        words += [word for cell in cells for word in cell.split()]
        cells = [cell[:_MARKS_WIDTH] for cell in cells]
    return max(map(len, [*words, *cells]))


def _num_fitting(table: Table, width: int) -> int:
    """How many leading columns fit; words and the first number always stay."""
    used = 0
    for column in range(len(table.header)):
        used += _width(table, column) + (_GAP if column else 0)
        if used > width and column > table.num_text:
            return column
    return len(table.header)
