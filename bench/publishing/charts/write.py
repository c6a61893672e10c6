"""Write charts to files: the specification, and the picture if it can be rendered."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from bench.core.cli.files import write_whole
from bench.publishing.charts.spec import Chart
from bench.publishing.document import Document, Figure, write

Illustrated = Callable[[Sequence[Figure]], Document]
"""Builds a document around its pictures."""


def write_charts(drawn: Iterable[Chart], folder: Path) -> tuple[list[Path], str | None]:
    """Write specifications, and pictures if they can be rendered; else a note says what lacks."""
    files = []
    is_drawing = can_draw()
    for chart in drawn:
        text = json.dumps(chart.spec, indent=1)
        files.append(_write(folder / f"{chart.name}.vl.json", text + "\n"))
        if is_drawing:
            files.append(write_picture(chart, folder))
    if is_drawing or not files:
        return files, None
    note = "Charts were written as specifications only; pip install attnbench[charts] draws them."
    return files, note


def write_pictures(
    drawn: Iterable[Chart], folder: Path
) -> tuple[list[tuple[str, Path]], str | None]:
    """Write pictures alone, for a page of docs: titles, files, and a note if none can be drawn."""
    if not can_draw():
        return [], "Pictures are left out; pip install attnbench[charts] draws them."
    return [(chart.title, write_picture(chart, folder)) for chart in drawn], None


def figures_of(drawn: Iterable[tuple[str, Path]]) -> list[Figure]:
    """Pictures of `write_pictures`, as a page beside their folder refers to them."""
    return [Figure(title, f"{file.parent.name}/{file.name}") for title, file in drawn]


def write_illustrated(page: Path, drawn: Iterable[Chart], document_of: Illustrated) -> list[Path]:
    """Write a page, and its pictures in a folder of its name; returns their paths."""
    made, _ = write_pictures(drawn, page.with_suffix(""))
    return [write(document_of(figures_of(made)), page), *(file for _, file in made)]


def can_draw() -> bool:
    """Whether vl-convert is installed, which renders specifications."""
    return importlib.util.find_spec("vl_convert") is not None


def write_picture(chart: Chart, folder: Path) -> Path:
    """Write a chart's picture as SVG; returns its path."""
    import vl_convert

    picture = vl_convert.vegalite_to_svg(json.dumps(chart.spec))
    return _write(folder / f"{chart.name}.svg", picture)


def _write(path: Path, content: str) -> Path:
    """Write a derived file, which can be made again from the records."""
    return write_whole(path, content, inside=path.parent.parent, is_derived=True)
