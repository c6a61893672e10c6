"""Publish a comparison: a table in the terminal, Markdown for a pull request, and JSON."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.core.cli.errors import ConfigError
from bench.core.cli.files import write_whole
from bench.core.format import quantity
from bench.publishing.document import escape, markdown_table
from bench.studies.gate.rows import LATENCY, GateRow
from bench.studies.gate.verdict import FAILURES, GateVerdict

_HEADER = ("verdict", "cell", "channel", "ratio", "interval", "note")
_STYLES = {
    GateVerdict.SLOWER: "bold red",
    GateVerdict.MORE: "bold red",
    GateVerdict.BROKEN: "bold red",
    GateVerdict.UNSURE: "yellow",
    GateVerdict.FASTER: "green",
    GateVerdict.LESS: "green",
}


@dataclass(frozen=True, kw_only=True)
class Sides:
    """The two sides of a comparison, in words.

    Attributes:
        notes: sentences that qualify the rows.
    """

    base: str
    current: str
    notes: tuple[str, ...] = ()


def shown(rows: Sequence[GateRow]) -> list[GateRow]:
    """Rows to show: all times, and the numbers without noise that changed; failures first."""
    kept = [r for r in rows if r.channel == LATENCY or r.verdict is not GateVerdict.SAME]
    return sorted(kept, key=lambda row: (row.verdict not in FAILURES, row.channel != LATENCY))


def summary(rows: Sequence[GateRow]) -> str:
    """Whether there is a regression, and the number of rows with each verdict."""
    counts = Counter(str(row.verdict) for row in rows)
    parts = ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common())
    failed = sorted({row.entry for row in rows if row.verdict in FAILURES})
    found = f"Regression in {', '.join(failed)}" if failed else "No regression"
    return f"{found}. {quantity(len(rows), 'number')} compared: {parts}."


def print_rows(rows: Sequence[GateRow], sides: Sides, console: Console) -> None:
    """Print the table of rows, the notes and the summary."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for name in _HEADER:
        table.add_column(name, justify="right" if name == "ratio" else "left", overflow="fold")
    for row in shown(rows):
        style = _STYLES.get(row.verdict, "")
        table.add_row(*(Text(cell) for cell in _cells(row)), style=style)
    console.print(Text(f"{sides.current} against {sides.base}", style="bold"))
    console.print(table)
    for note in sides.notes:
        console.print(note, highlight=False, markup=False)
    console.print(summary(rows), highlight=False)


def _cells(row: GateRow) -> tuple[str, ...]:
    ratio = "" if row.ratio is None else f"{row.ratio:.3f}"
    interval = ""
    if row.low is not None and row.high is not None and row.low != row.high:
        interval = f"[{row.low:.3f}, {row.high:.3f}]"
    note = row.reason or ""
    if row.channel != LATENCY and row.base is not None and row.current is not None:
        note = f"{row.base:,.6g} → {row.current:,.6g}" + (f" ({note})" if note else "")
    return (str(row.verdict), row.cell, row.channel, ratio, interval, note)


def markdown(rows: Sequence[GateRow], sides: Sides) -> str:
    """A comment for a pull request: the summary, the failures, and the rest folded away."""
    ordered = shown(rows)
    failed = [row for row in ordered if row.verdict in FAILURES]
    lines = ["### attnbench", "", summary(rows), ""]
    lines += [f"`{escape(sides.current)}` against `{escape(sides.base)}`", ""]
    lines += [f"{escape(note)}\n" for note in sides.notes]
    if failed:
        lines += [_table(failed), ""]
    rest = [row for row in ordered if row not in failed]
    if rest:
        lines += ["<details><summary>All times</summary>", "", _table(rest), "", "</details>", ""]
    return "\n".join(lines)


def _table(rows: Sequence[GateRow]) -> str:
    return markdown_table(_HEADER, [[*map(escape, _cells(row))] for row in rows], "lllrll")


def write_rows(rows: Sequence[GateRow], sides: Sides, out: Path) -> list[Path]:
    """Write ``regress.json`` and ``regress.md`` under `out`.

    The Markdown is also appended to the file ``$GITHUB_STEP_SUMMARY`` if that is set.

    Raises:
        ConfigError: one of these cannot be written.
    """
    text = markdown(rows, sides)
    content = json.dumps([row.to_dict() for row in rows], indent=1, allow_nan=False) + "\n"
    files = [write_whole(out / "regress.json", content), write_whole(out / "regress.md", text)]
    step_summary = os.environ.get("GITHUB_STEP_SUMMARY")
    if step_summary:
        _append(Path(step_summary), text)
    return files


def _append(path: Path, text: str) -> None:
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise ConfigError(
            f"GITHUB_STEP_SUMMARY={path} cannot be written: {error.strerror}. Unset it."
        ) from error
