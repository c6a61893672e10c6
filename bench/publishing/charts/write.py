"""Write charts to files: the specification, and the picture if it can be rendered."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from bench.core.cli.files import write_whole
from bench.publishing.document import Chart, Document, write


def write_charts(
    drawn: Iterable[Chart], folder: Path
) -> tuple[list[Path], list[Chart], str | None]:
    """Write specifications, and pictures if they can be rendered.

    Returns:
        The files, the charts that have a picture, with its path, and a note if none can be
        rendered.

    Raises:
        ConfigError: a file cannot be written.
    """
    charts = list(drawn)
    files = [
        _write(folder / f"{chart.name}.vl.json", json.dumps(chart.spec, indent=1) + "\n")
        for chart in charts
    ]
    pictures, note = write_pictures(charts, folder)
    return [*files, *(folder.parent / chart.path for chart in pictures)], pictures, note


def write_pictures(drawn: Sequence[Chart], folder: Path) -> tuple[list[Chart], str | None]:
    """Write pictures as SVG without their specifications, for a page beside their folder.

    Returns:
        The charts with the paths of their pictures, and a note if none can be rendered.

    Raises:
        ConfigError: a file cannot be written.
    """
    if not drawn:
        return [], None
    if importlib.util.find_spec("vl_convert") is None:
        return [], "Pictures are left out; pip install attnbench[charts] draws them."
    import vl_convert

    found = []
    for chart in drawn:
        picture = vl_convert.vegalite_to_svg(json.dumps(chart.spec))
        file = _write(folder / f"{chart.name}.svg", picture)
        found.append(replace(chart, path=f"{folder.name}/{file.name}"))
    return found, None


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


def _write(path: Path, content: str) -> Path:
    """Write a derived file, which can be made again from the records."""
    return write_whole(path, content, inside=path.parent.parent, is_derived=True)
