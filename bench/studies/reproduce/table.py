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
from bench.studies.reproduce.verdicts import Judgement, PaperVerdict

_COLOURS = {
    PaperVerdict.REPRODUCED: "green",
    PaperVerdict.HOLDS: "green",
    PaperVerdict.HOLDS_WHERE: "yellow",
    PaperVerdict.NOT_RESOLVABLE: "yellow",
    PaperVerdict.UNFINISHED: "yellow",
    PaperVerdict.ONE_SEED: "yellow",
    PaperVerdict.UNTUNED: "yellow",
    PaperVerdict.NO_VERDICT: "yellow",
    PaperVerdict.AGREES: "green",
    PaperVerdict.DISAGREES: "red",
    PaperVerdict.DIFFERS: "red",
    PaperVerdict.DOES_NOT_HOLD: "red",
}


def in_words(found: Judgement) -> str:
    """A verdict, its numbers and notes, as ``reproduced: 99.6 (98.9 to 99.9, over 3 seeds)``."""
    separator = " " if found.verdict in (PaperVerdict.DIFFERS, PaperVerdict.DISAGREES) else ": "
    words = f"{found.verdict}{separator}{found.words}" if found.words else str(found.verdict)
    return "; ".join((words, *found.notes))


def printed_value(entry: Described) -> str:
    """Value printed in the paper, in percent; the values of a contradiction, as printed."""
    if isinstance(entry, PaperCell):
        return f"{100 * entry.published:.4g}"
    if isinstance(entry, Contradiction):
        return ", ".join(value for _, value in entry.values)
    return ""


def cost(entry: Described) -> str:
    """Estimated duration on two cores, in words; empty where nothing is run."""
    if isinstance(entry, Contradiction) or not entry.cost_s or _cannot_run(entry):
        return ""
    return format_duration(entry.cost_s).replace(" 0 s", "").replace(" 0 min", "")


def _cannot_run(entry: Described) -> bool:
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
    trained = [entry for entry in entries if not is_baseline(entry)]
    baselines = [entry for entry in entries if is_baseline(entry)]
    ends = []
    for title, own in (("", trained), ("Baselines", baselines)):
        if own:
            if title:
                console.print(f"\n{title}", style="bold")
            counts = _print_table(console, own, records, stores)
            ended = ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common())
            ends.append(f"{len(own)} {'baselines' if title else 'described'}: {ended}.")
    console.print("\n" + " ".join(ends), highlight=False)
    console.print(
        "cell=ID runs one and judges it; budget=10m sees how far a dear one gets.", highlight=False
    )


def _print_table(
    console: Console,
    entries: Sequence[Described],
    records: Sequence[Record],
    stores: Sequence[Path],
) -> Counter[str]:
    """Print a line per entry; returns the number of entries with each verdict."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("id", "what", "published", "cost", "verdict"):
        table.add_column(name, overflow="fold", justify="right" if name == "cost" else "left")
    counts: Counter[str] = Counter()
    for entry in entries:
        found = judgement(entry, records, stores)
        is_disagreement = isinstance(entry, Contradiction)
        counts["contradiction" if is_disagreement else str(found.verdict)] += 1
        words = "" if is_disagreement else in_words(found)
        style = _COLOURS.get(found.verdict, "dim") if not is_disagreement else ""
        table.add_row(entry.id, _what(entry), printed_value(entry), cost(entry), words, style=style)
    console.print(table)
    return counts


def _what(entry: Described) -> str:
    if isinstance(entry, Claim):
        return f"{_authors(entry.paper)}: {entry.sentence}"
    if isinstance(entry, PaperCell):
        return f"{_authors(entry.paper)}, {entry.where}: {entry.what}"
    return entry.what


def _authors(paper: str) -> str:
    """As ``Arora et al., 2023``."""
    return ", ".join(paper.split(", ")[:2])
