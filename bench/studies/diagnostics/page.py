"""Write the page of diagnostics and its chart. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.core.format import format_duration
from bench.core.numbers import Line, Origin
from bench.core.numbers import sentences as finding_sentences
from bench.publishing.charts.write import write_charts
from bench.publishing.diagnostics import left_out_words, sections
from bench.publishing.document import (
    Block,
    Bullets,
    Chart,
    Command,
    Document,
    Heading,
    Prose,
    Text,
    write,
)
from bench.publishing.templates import prose

PAGE = "diagnostics.md"


def write_page(
    lines: Sequence[Line], origin: Origin, wall_s: float, chart: Chart | None, out: Path
) -> list[Path]:
    """Write the page, and the chart into a folder of the same name; returns the files.

    Raises:
        ConfigError: a file cannot be written.
    """
    drawn = [] if chart is None else [chart]
    files, pictures, note = write_charts(drawn, out / Path(PAGE).stem)
    blocks: list[Block] = [
        Text([f"{origin.machine}, {format_duration(wall_s)} of wall time, by"]),
        Command(origin.command),
        Prose("\n".join(origin.settings)),
        *pictures,
        Bullets(finding_sentences(lines)),
        *([Text([note])] if note else []),
        *(block for section in sections(lines) for block in section.blocks(level=2)),
    ]
    if left_out := left_out_words(lines):
        blocks += [Heading("Left out"), Bullets(left_out)]
    blocks += [Heading("How to read this"), Prose(prose(__file__, "how_to_read"))]
    document = Document("What attention weights look like", blocks)
    return [write(document, out / PAGE), *files]
