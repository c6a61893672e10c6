"""The leaderboard as a Markdown page, and its tables for LaTeX."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bench.publishing.conclusions import sentences
from bench.publishing.document import Block, Bullets, Chart, Document, Heading, Prose, Text
from bench.publishing.growth import growth_sections, thread_sections
from bench.publishing.leaderboard import Leaderboard
from bench.publishing.tables import (
    Section,
    holes_table,
    machine_words,
    speed_sections,
    summary_words,
)
from bench.publishing.task_tables import task_sections
from bench.publishing.templates import prose


def leaderboard_page(
    board: Leaderboard,
    columns: Sequence[str],
    pictures: Sequence[Chart] = (),
    model_columns: Sequence[str] = (),
    diagnostics: Sequence[Section] = (),
) -> Document:
    """The whole page.

    `pictures` are drawn; without `model_columns`, models have `columns`.
    """
    blocks: list[Block] = [Bullets(sentences(board))]
    blocks += [Text([f"Measured on {words}."]) for words in machine_words(board)]
    blocks.append(Text([summary_words(board)]))
    every = [*chapters(board, columns, model_columns), ("Diagnostics", diagnostics)]
    for title, sections in every:
        blocks += [Heading(title)] if sections else []
        blocks += [block for section in sections for block in section.blocks()]
    blocks += [Heading("Charts"), *pictures] if pictures else []
    blocks += holes_blocks(board)
    blocks += [Heading("How to read this"), Prose(prose(__file__, "how_to_read"))]
    return Document("Leaderboard of attention mechanisms", blocks)


def holes_blocks(board: Leaderboard) -> list[Block]:
    """The cells without a number below a heading; nothing if there are none."""
    holes = holes_table(board)
    return [Heading(holes.title), replace(holes, title="")] if board.holes else []


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
        ("Whole models", speed_sections(board, model_columns or columns, of_models=True)),
        ("Task accuracy", task_sections(board)),
    ]
