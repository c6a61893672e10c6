"""Scores as a table for the terminal and a Markdown page, and as CSV with a row per seed."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from rich.console import Console

from bench.app.files import write_whole
from bench.explain.config import ExplainConfig
from bench.explain.running import Row
from bench.explain.scores import NUM_SHARES, SCORES, Estimate, over_images
from bench.machine import environment
from bench.measure.clock import utc_now
from bench.publish.format import format_duration
from bench.publish.machine import machine_in_words
from bench.publish.markdown import escape, table_lines
from bench.publish.tables import Table

TITLES = {
    "pointing": "pointing ↑",
    "mass": "mass on digit ↑",
    "own": "own of both ↑",
    "insertion": "insertion ↑",
    "deletion": "deletion ↓",
}
HOW_TO_READ = f"""\
- **Pointing**: how often the most relevant patch is of the digit whose class is explained; a
  method that looks at no class has 0.5 at most where two digits are shown. **Mass**: the share of
  relevance on that digit. **Own of both**: of what lies on either digit, the part on the one that
  is explained; 0.5 without a look at the class. **Insertion** and **deletion**: the model's
  probability of the class while patches are put on a blank canvas, or taken off the full one, from
  the most relevant on; the mean over {NUM_SHARES} shares from none to all.
- An arrow says which way is better. `random` draws relevance: it is the floor.
- Intervals are of 95 %, a bootstrap over images: a number is the mean over models (seeds) and over
  the shown classes of each image. They say nothing about models of other seeds; the CSV has each.
- Every class that is shown is explained, whether the model names it or not."""


def print_table(config: ExplainConfig, rows: Sequence[Row], console: Console) -> None:
    """The table, and how many images and seeds stand behind it."""
    console.print(table_lines(table(config, rows)), markup=False, highlight=False, soft_wrap=True)
    console.print(_basis(config, rows), markup=False, highlight=False, soft_wrap=True)


def table(config: ExplainConfig, rows: Sequence[Row]) -> Table:
    """A row for each entry and method, over all of its seeds."""
    lines = []
    for entry, method, own in _groups(config, rows):
        accuracy = sum(row.accuracy for row in own) / len(own)
        values = [_words(_estimate(own, name)) for name in _shown(rows)]
        lines.append((entry, method, f"{100 * accuracy:.1f}", *values))
    return Table(
        title="Explanations",
        header=("attention", "explain", "accuracy %", *(TITLES[name] for name in _shown(rows))),
        rows=tuple(lines),
        num_text=2,
    )


def write_files(
    config: ExplainConfig, rows: Sequence[Row], skipped: Sequence[str], wall_s: float
) -> list[Path]:
    """``explain.md`` and ``explain.csv`` in the folder of the command."""
    here = environment.current(("cpu",), "default", {})
    about = [
        f"`{command_line(config)}`",
        _basis(config, rows),
        f"{utc_now()}, {machine_in_words(here.to_dict())}, commit {here.commit or 'unknown'}, "
        f"{format_duration(wall_s)} of wall time, models kept from earlier runs not counted.",
        *map(escape, skipped),
    ]
    blocks = ["# Explanations, scored", "  \n".join(about), table_lines(table(config, rows))]
    page = "\n\n".join([*blocks, HOW_TO_READ]) + "\n"
    return [
        write_whole(config.out / "explain.md", page),
        write_whole(config.out / "explain.csv", _csv(config, rows)),
    ]


def command_line(config: ExplainConfig) -> str:
    """What gives this table again, but for hyperparameters that were set by hand."""
    seeds = ",".join(map(str, config.seed))
    words = [
        f"attention=[{','.join(entry.label for entry in config.attention)}]",
        f"explain=[{','.join(config.explain)}]",
        f"num_images={config.num_images}",
        f"seed=[{seeds}]",
        *(f"{key}={value}" for key, value in asdict(config.reading).items()),
        *(f"canvas.{key}={value}" for key, value in config.canvas.items()),
    ]
    return f"python -m bench.explain {' '.join(words)}"


def _groups(config: ExplainConfig, rows: Sequence[Row]) -> Iterator[tuple[str, str, list[Row]]]:
    for entry in config.attention:
        for method in config.explain:
            own = [row for row in rows if (row.entry, row.method) == (entry.label, method)]
            if own:
                yield entry.label, method, own


def _shown(rows: Sequence[Row]) -> list[str]:
    """With one digit no other is there to be told from."""
    return [name for name in SCORES if any(_estimate([row], name) for row in rows)]


def _estimate(own: Sequence[Row], name: str) -> Estimate | None:
    return over_images(torch.stack([row.samples[name] for row in own]).mean(dim=0))


def _words(found: Estimate | None) -> str:
    return "" if found is None else f"{found.mean:.3f} ({found.low:.3f} to {found.high:.3f})"


def _basis(config: ExplainConfig, rows: Sequence[Row]) -> str:
    seeds = ", ".join(map(str, sorted({row.seed for row in rows})))
    return (
        f"{config.num_images} test images, models of seed {seeds}. "
        "Intervals: 95 %, bootstrap over images."
    )


def _csv(config: ExplainConfig, rows: Sequence[Row]) -> str:
    text = io.StringIO()
    reading = asdict(config.reading)
    names = ["attention", "explain", "seed", "num_images", "accuracy", *reading]
    names += [f"{name}{end}" for name in SCORES for end in ("", "_low", "_high")]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    for row in rows:
        numbers: list[float | str] = []
        for name in SCORES:
            found = _estimate([row], name)
            numbers += ["", "", ""] if found is None else [found.mean, found.low, found.high]
        about = [row.entry, row.method, row.seed, config.num_images, row.accuracy]
        writer.writerow([*about, *reading.values(), *numbers])
    return text.getvalue()
