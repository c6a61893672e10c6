"""All described entries as a table for the terminal. No torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.core.format import format_duration
from bench.core.record import Record
from bench.studies.reproduce.described import Claim, Contradiction, Described, PaperCell
from bench.studies.reproduce.stored import judgement
from bench.studies.reproduce.verdicts import PaperVerdict

_COLOURS = {
    **dict.fromkeys((PaperVerdict.REPRODUCED, PaperVerdict.HOLDS, PaperVerdict.AGREES), "green"),
    **dict.fromkeys(
        (PaperVerdict.DISAGREES, PaperVerdict.DIFFERS, PaperVerdict.DOES_NOT_HOLD), "red"
    ),
    **dict.fromkeys((PaperVerdict.NOT_COMPARABLE, PaperVerdict.NOT_RUN), "dim"),
}
"""Colours of verdicts that are not yellow."""


def printed_value(entry: Described) -> str:
    """Value printed in the paper, in percent; the values of a contradiction, as printed."""
    if isinstance(entry, Contradiction):
        return ", ".join(value for _, value in entry.values)
    return f"{100 * entry.published:.4g}" if isinstance(entry, PaperCell) else ""


def cost(entry: Described) -> str:
    """Estimated duration on two cores, in words; empty where nothing is run."""
    if isinstance(entry, Contradiction) or not entry.cost_s or is_foreign(entry):
        return ""
    return format_duration(entry.cost_s).replace(" 0 s", "").replace(" 0 min", "")


def is_foreign(entry: Described) -> bool:
    """True for a number that cannot be trained or measured here."""
    return isinstance(entry, PaperCell) and bool(entry.not_comparable)


def is_baseline(entry: Described) -> bool:
    """True for a number that follows from a task without any training."""
    return isinstance(entry, PaperCell) and bool(entry.by)


def print_list(
    console: Console,
    entries: Sequence[Described],
    records: Sequence[Record],
    stores: Sequence[Path],
) -> None:
    """Print a line per entry, baselines apart, and the number of entries with each verdict."""
    ends = []
    for title in ("", "Baselines"):
        own = [entry for entry in entries if is_baseline(entry) == bool(title)]
        if not own:
            continue
        if title:
            console.print(f"\n{title}", style="bold")
        table = Table(box=None, pad_edge=False, header_style="bold")
        for name in ("id", "what", "published", "cost", "verdict"):
            table.add_column(name, overflow="fold", justify="right" if name == "cost" else "left")
        counts: Counter[str] = Counter()
        for entry in own:
            found, what = judgement(entry, records, stores), _what(entry)
            words, style = str(found), _COLOURS.get(found.verdict, "yellow")
            if isinstance(entry, Contradiction):
                words = style = ""
            counts[str(found.verdict) if words else entry.kind] += 1
            table.add_row(entry.id, what, printed_value(entry), cost(entry), words, style=style)
        console.print(table)
        ended = ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common())
        ends.append(f"{len(own)} {'baselines' if title else 'described'}: {ended}.")
    console.print("\n" + " ".join(ends), highlight=False)
    console.print(
        "cell=ID runs one and judges it; budget=10m shows how far an expensive one gets.",
        highlight=False,
    )


def _what(entry: Described) -> str:
    authors = ", ".join(entry.paper.split(", ")[:2])  # as "Arora et al., 2023"
    if isinstance(entry, Claim):
        return f"{authors}: {entry.sentence}"
    if isinstance(entry, PaperCell):
        return f"{authors}, {entry.where}: {entry.what}"
    return entry.what
