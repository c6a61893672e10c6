"""The leaderboard as a Markdown page, and its tables for LaTeX."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bench.publishing.conclusions import sentences
from bench.publishing.document import Block, Document, Heading, escape, pipe_table
from bench.publishing.growth import growth_sections
from bench.publishing.leaderboard import Leaderboard
from bench.publishing.tables import (
    Section,
    holes_table,
    machine_words,
    model_sections,
    speed_sections,
    summary_words,
)
from bench.publishing.task_tables import task_sections
from bench.publishing.templates import prose
from bench.publishing.threads import thread_sections


def leaderboard_page(
    board: Leaderboard,
    columns: Sequence[str],
    pictures: Sequence[tuple[str, str]] = (),
    model_columns: Sequence[str] = (),
    diagnostics: Sequence[Section] = (),
) -> str:
    """The whole page as Markdown.

    `pictures` are titles and paths, relative to the page; without `model_columns`, models have
    `columns`.
    """
    blocks = ["# Leaderboard of attention mechanisms"]
    if said := sentences(board):
        blocks.append("\n".join(f"- {escape(sentence)}" for sentence in said))
    blocks += [f"Measured on {words}." for words in map(escape, machine_words(board))]
    blocks.append(summary_words(board))
    every = [*chapters(board, columns, model_columns), ("Diagnostics", diagnostics)]
    for title, sections in every:
        blocks += [f"## {title}"] if sections else []
        blocks += section_blocks(sections)
    if pictures:
        blocks.append("## Charts")
        blocks += [f"![{escape(title)}]({path})" for title, path in pictures]
    if board.holes:
        holes = holes_table(board)
        blocks += [f"## {holes.title}", pipe_table(holes)]
    blocks += ["## How to read this", prose(__file__, "how_to_read") + "\n"]
    return "\n\n".join(blocks)


def leaderboard_tables(
    board: Leaderboard, columns: Sequence[str], model_columns: Sequence[str] = ()
) -> Document:
    """Headings and tables of the page; arguments as for `leaderboard_page`."""
    blocks: list[Block] = []
    for title, sections in chapters(board, columns, model_columns):
        for section in sections:
            blocks += [Heading(f"{title}: {section.title}"), *section.tables]
    measured = ", ".join(machine_words(board))
    return Document(f"Leaderboard of attention mechanisms, measured on {measured}", blocks)


def chapters(
    board: Leaderboard, columns: Sequence[str], model_columns: Sequence[str]
) -> list[tuple[str, Sequence[Section]]]:
    """Sections of the leaderboard by the title of their chapter, in the order of the page."""
    return [
        ("Speed and memory", speed_sections(board, columns)),
        ("Growth with the sequence length", growth_sections(board)),
        ("Threads", thread_sections(board)),
        ("Whole models", model_sections(board, model_columns or columns)),
        ("Task accuracy", task_sections(board)),
    ]


def section_blocks(sections: Sequence[Section], level: int = 3) -> Iterator[str]:
    """Markdown of sections: headings of the given level, notes and tables."""
    for section in sections:
        yield f"{'#' * level} {escape(section.title)}"
        notes = [*section.notes, *section.fine_print]
        if notes:
            yield "  \n".join(map(escape, notes))
        for table in section.tables:
            yield f"**{escape(table.title)}**"
            yield pipe_table(table)
