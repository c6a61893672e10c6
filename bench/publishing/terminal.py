"""The leaderboard in a terminal, or in a log."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text as RichText

from bench.core.record import Record
from bench.publishing.conclusions import sentences
from bench.publishing.config import PublishConfig
from bench.publishing.document import Block, Document, Text
from bench.publishing.leaderboard import Leaderboard, build_leaderboard
from bench.publishing.markdown import chapters
from bench.publishing.printed import print_document
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
