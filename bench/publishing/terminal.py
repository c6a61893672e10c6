"""The leaderboard in a terminal, or in a log."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from bench.core.record import Record
from bench.publishing.conclusions import sentences
from bench.publishing.config import PublishConfig
from bench.publishing.leaderboard import Leaderboard, build_leaderboard
from bench.publishing.markdown import chapters
from bench.publishing.printed import laid_out
from bench.publishing.tables import Section, holes_table, machine_words, summary_words
from bench.publishing.versus import versus, versus_lines, versus_sections


def print_leaderboard(board: Leaderboard, config: PublishConfig, console: Console) -> None:
    """Print conclusions, rankings, accuracies, and every cell that is not ok with its reason.

    A narrow console drops the last columns of a table, and a line says so.
    """
    every = chapters(board, config.columns, config.model_columns)
    sections = [section for _, own in every for section in own]
    for sentence in sentences(board):
        console.print(Text(sentence))
    print_sections(sections, console)
    if board.holes:
        holes = holes_table(board)
        console.print()
        console.print(Text(holes.title, style="bold"))
        console.print(laid_out(holes, console.width))
    console.print()
    for line in [*machine_words(board), summary_words(board)]:
        console.print(Text(line))
    if any(
        len(laid_out(t, console.width).columns) < len(t.columns) for s in sections for t in s.tables
    ):
        console.print(Text("Columns that did not fit are in leaderboard.md.", style="dim"))


def print_versus(records: Sequence[Record], one: str, other: str, console: Console) -> None:
    """Print when one row beats another.

    Raises:
        ConfigError: a row does not exist, or the two share no setting and no task.
    """
    board = build_leaderboard(records)
    found = versus(board, one, other)
    for line in versus_lines(found, board):
        console.print(Text(line))
    print_sections(versus_sections(found), console)


def print_files(files: Sequence[Path], notes: Sequence[str], console: Console) -> None:
    """Print notes, and then the path of every file; charts are named by their folder alone."""
    places = dict.fromkeys(file.parent if file.parent.name == "charts" else file for file in files)
    for note in notes:
        console.print(Text(note), soft_wrap=True)
    for place in places:
        console.print(Text(f"Wrote {place}"), soft_wrap=True)


def print_sections(sections: Sequence[Section], console: Console) -> None:
    """Print titles, notes and tables; a narrow console drops the last columns."""
    for section in sections:
        console.print()
        console.print(Text(section.title, style="bold"))
        for note in section.notes:
            console.print(Text(note, style="dim"))
        for table in section.tables:
            console.print()
            console.print(Text(table.title, style="italic"))
            console.print(laid_out(table, console.width))
