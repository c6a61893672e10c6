"""Write the page of diagnostics and its chart. No torch."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

from bench.core.cli.files import write_whole
from bench.core.finding import sentences as finding_sentences
from bench.core.format import format_duration
from bench.core.numbers import Line, Origin
from bench.publishing.charts.write import write_charts
from bench.publishing.diagnostics import left_out_words, sections
from bench.publishing.document import Chart
from bench.publishing.markdown import section_blocks
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
    folder = out / Path(PAGE).stem
    files, note = write_charts(drawn, folder)
    blocks = [
        "# What attention weights look like",
        f"{origin.machine}, {format_duration(wall_s)} of wall time, by",
        textwrap.indent(origin.command, "    "),
        "\n".join(origin.settings),
    ]
    blocks += [
        f"![{chart.title}]({folder.name}/{chart.name}.svg)"
        for chart in drawn
        if folder / f"{chart.name}.svg" in files
    ]
    blocks += ["\n".join(f"- {words}" for words in finding_sentences(lines))]
    blocks += [note] if note else []
    blocks += list(section_blocks(sections(lines), level=2))
    if left_out := left_out_words(lines):
        blocks += ["## Left out", "\n".join(f"- {words}" for words in left_out)]
    blocks += ["## How to read this", prose(__file__, "how_to_read")]
    return [write_whole(out / PAGE, "\n\n".join(blocks) + "\n"), *files]
