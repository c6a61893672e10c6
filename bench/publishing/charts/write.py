"""Write charts to files: the specification, and the picture if it can be rendered."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bench.core.cli.errors import say_once
from bench.core.cli.files import write_whole
from bench.core.format import quantity
from bench.publishing.document import Chart, Document, write

_DRAW = """import json, sys, vl_convert
for line in sys.stdin:
    print(json.dumps(vl_convert.vegalite_to_svg(line)), flush=True)"""
"""Draws a picture a line, in a process of its own: the library ends its process without memory."""


def write_charts(charts: Sequence[Chart], folder: Path) -> tuple[list[Path], list[Chart]]:
    """Write specifications, and pictures as far as they can be rendered.

    Returns:
        The files, and the charts that have a picture, with its path.

    Raises:
        ConfigError: a file cannot be written.
    """
    files = [
        _write(folder / f"{chart.name}.vl.json", json.dumps(chart.spec, indent=1) + "\n")
        for chart in charts
    ]
    pictures = write_pictures(charts, folder)
    return [*files, *(folder.parent / chart.path for chart in pictures)], pictures


def write_pictures(charts: Sequence[Chart], folder: Path) -> list[Chart]:
    """Write pictures as SVG without their specifications, for a page beside their folder.

    Returns:
        The charts with the paths of their pictures; a sentence on stderr names those without one.

    Raises:
        ConfigError: a file cannot be written.
    """
    pictures, why = _drawn([json.dumps(chart.spec) for chart in charts])
    found = []
    for chart, picture in zip(charts, pictures, strict=False):
        file = _write(folder / f"{chart.name}.svg", picture)
        found.append(replace(chart, path=f"{folder.name}/{file.name}"))
    if left := [chart.name for chart in charts[len(found) :]]:
        say_once(f"{quantity(len(left), 'picture')} missing in {folder}, {', '.join(left)}: {why}")
    return found


def _drawn(specs: Sequence[str]) -> tuple[list[str], str]:
    """SVG of the first specifications, as many as can be rendered, and why no more can be."""
    if not specs or importlib.util.find_spec("vl_convert") is None:
        return [], "pip install attnbench[charts] draws them."
    child = subprocess.run(
        [sys.executable, "-P", "-c", _DRAW],
        input="\n".join(specs),
        capture_output=True,
        encoding="utf-8",
        errors="replace",
    )
    said = [words for line in child.stderr.splitlines() if (words := line.strip("# "))] or [""]
    first_or_last = said[0 if child.returncode < 0 else -1]  # a dying V8 says it first
    why = (
        f"vl_convert ended with exit code {child.returncode} ({first_or_last[:200]}). If memory "
        "is limited, as by `ulimit -v`, `attnbench report` draws them without the limit."
    )
    return [json.loads(line) for line in child.stdout.split("\n")[:-1]], why


def write_illustrated(document: Document, page: Path) -> list[Path]:
    """Write a page, then the pictures of its charts into a folder of its name, and it with them.

    Returns:
        Their paths, the page's first.

    Raises:
        ConfigError: a file cannot be written.
    """
    charts = [block for block in document.blocks if isinstance(block, Chart)]
    write(document, page)
    pictures = write_pictures(charts, page.with_suffix(""))
    own = iter(pictures)
    blocks = [next(own, b) if isinstance(b, Chart) else b for b in document.blocks]
    files = [page.parent / chart.path for chart in pictures]
    return [write(replace(document, blocks=blocks), page), *files]


def _write(path: Path, content: str) -> Path:
    """Write a derived file, which can be made again from the records."""
    return write_whole(path, content, inside=path.parent.parent, is_derived=True)
