"""Write the page of diagnostics and its chart. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bench.core.cli.errors import ConfigError
from bench.core.numbers import FILE, Line, Origin, read_lines
from bench.core.numbers import sentences as finding_sentences
from bench.publishing.charts.write import write_illustrated
from bench.publishing.diagnostics import entropy_chart, left_out_words, sections
from bench.publishing.document import (
    Block,
    Bullets,
    Command,
    Document,
    Heading,
    Prose,
    Text,
)
from bench.publishing.templates import prose

PAGE = "diagnostics.md"


def write_page(store: Path, page: Path, command: str, tasks: Sequence[str] = ()) -> list[Path]:
    """Write the page of stored numbers and its chart; returns their paths.

    Raises:
        ConfigError: there are no numbers, or a file cannot be written.
    """
    found = read_lines(store / FILE)
    if found.origin is None:
        raise ConfigError(f"{store / FILE} has no numbers; {command} makes them.")
    return write_found(found.lines, replace(found.origin, command=command), page)


def write_found(lines: Sequence[Line], origin: Origin, page: Path) -> list[Path]:
    """Write the page, and the chart into a folder of its name; returns the files.

    Raises:
        ConfigError: a file cannot be written.
    """
    chart = entropy_chart(lines)
    blocks: list[Block] = [
        Text([f"{origin.machine}, by"]),
        Command(origin.command),
        Prose("\n".join(origin.settings)),
        *([chart] if chart else []),
        Bullets(finding_sentences(lines)),
        *(block for section in sections(lines) for block in section.blocks(level=2)),
    ]
    if left_out := left_out_words(lines):
        blocks += [Heading("Left out"), Bullets(left_out)]
    blocks += [Heading("How to read this"), Prose(prose(__file__, "how_to_read"))]
    return write_illustrated(Document("What attention weights look like", blocks), page)
