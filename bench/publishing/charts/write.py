"""Write charts to files: the specification, and the picture if it can be rendered."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from bench.core.cli.files import write_whole
from bench.publishing.document import Chart, Document, write


def write_charts(drawn: Iterable[Chart], folder: Path) -> tuple[list[Path], str | None]:
    """Write specifications, and pictures if they can be rendered; else a note says what lacks.

    Raises:
        ConfigError: a file cannot be written.
    """
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


def write_pictures(drawn: Iterable[Chart], folder: Path) -> tuple[list[Chart], str | None]:
    """Write pictures without their specifications, for a page beside their folder.

    Returns:
        The charts with the paths of their pictures, and a note if none can be rendered.

    Raises:
        ConfigError: a file cannot be written.
    """
    if not can_draw():
        return [], "Pictures are left out; pip install attnbench[charts] draws them."
    files = ((chart, write_picture(chart, folder)) for chart in drawn)
    return [replace(chart, path=f"{folder.name}/{file.name}") for chart, file in files], None


def illustrated(document: Document, page: Path) -> tuple[Document, list[Path], str | None]:
    """Draw the charts of a document into a folder of its page's name.

    Returns:
        The document with their paths, the files, and a note if none can be rendered.

    Raises:
        ConfigError: a file cannot be written.
    """
    charts = [block for block in document.blocks if isinstance(block, Chart)]
    drawn, note = write_pictures(charts, page.with_suffix(""))
    own = iter(drawn)
    blocks = [next(own, b) if isinstance(b, Chart) else b for b in document.blocks]
    files = [page.parent / chart.path for chart in drawn]
    return replace(document, blocks=blocks), files, note


def write_illustrated(document: Document, page: Path) -> list[Path]:
    """Write a page and the pictures of its charts; returns their paths.

    Raises:
        ConfigError: a file cannot be written.
    """
    document, files, _ = illustrated(document, page)
    return [write(document, page), *files]


def can_draw() -> bool:
    """Whether vl-convert is installed, which renders specifications."""
    return importlib.util.find_spec("vl_convert") is not None


def write_picture(chart: Chart, folder: Path) -> Path:
    """Write a chart's picture as SVG; returns its path.

    Raises:
        ConfigError: the file cannot be written.
    """
    import vl_convert

    picture = vl_convert.vegalite_to_svg(json.dumps(chart.spec))
    return _write(folder / f"{chart.name}.svg", picture)


def _write(path: Path, content: str) -> Path:
    """Write a derived file, which can be made again from the records."""
    return write_whole(path, content, inside=path.parent.parent, is_derived=True)
