"""The command: list what papers describe, or run and judge some of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.core.cli.errors import ConfigError
from bench.core.cli.files import check_writable
from bench.core.format import format_duration
from bench.core.grouping import grouped
from bench.core.record import Record
from bench.studies.reproduce.described import Claim, Contradiction, Described, PaperCell
from bench.studies.reproduce.looks import Looks
from bench.studies.reproduce.page import write_page
from bench.studies.reproduce.papers import read_papers
from bench.studies.reproduce.power import print_power
from bench.studies.reproduce.settings import Reproduce
from bench.studies.reproduce.stored import judgement, keep_all, read_all
from bench.studies.reproduce.verdicts import Judgement, PaperVerdict
from bench.studies.session import Session, Stopped, run_study

EXPENSIVE_S = 30 * 60.0
"""Cost in seconds above which a budget is required: an id alone must not start hours of work."""

_CONTRADICTS = (PaperVerdict.DIFFERS, PaperVerdict.DISAGREES, PaperVerdict.DOES_NOT_HOLD)

_COLOURS = {
    **dict.fromkeys((PaperVerdict.REPRODUCED, PaperVerdict.HOLDS, PaperVerdict.AGREES), "green"),
    **dict.fromkeys(_CONTRADICTS, "red"),
    **dict.fromkeys((PaperVerdict.NOT_COMPARABLE, PaperVerdict.NOT_RUN), "dim"),
}
"""Colours of verdicts that are not yellow."""


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    return run_study("reproduce", Reproduce, study, argv, writes=())


def study(asked: Reproduce, session: Session) -> int:
    """List, run, publish or plan seeds, as the settings say; returns the exit code."""
    papers = read_papers(asked.papers)
    if asked.power:
        return print_power(asked.power, asked.stores, session.console)
    if asked.page or asked.check:
        if asked.docs is None and not asked.keep.is_dir():
            raise ConfigError(
                f"keep={asked.keep} is not a folder, so the checkout's page would lose its "
                "results. Run this in the checkout, or write another page with docs=DIR."
            )
        if not asked.check and asked.out.resolve() != asked.keep.resolve():
            check_writable(asked.keep)
            for file in keep_all(asked.out, asked.keep):
                session.say(f"kept {file}")
        return write_page(papers, asked.keep, asked.docs, is_check=asked.check)
    if not asked.cell:
        shown = [entry for entry in papers.entries.values() if _is_wanted(entry, asked)]
        if not shown:
            raise ConfigError(f"Nothing described matches kind={asked.kind} find={asked.find}.")
        _print_list(session.console, shown, read_all(asked.stores), asked.stores)
        return 0
    check_writable(asked.out)
    entries = [papers.find(name) for name in asked.cell]
    for entry in entries:
        _refuse(entry, asked)
        if asked.until and not _compares_arms(entry):
            able = ", ".join(one.id for one in papers.entries.values() if _compares_arms(one))
            raise ConfigError(
                f"until={asked.until} adds seeds of training, and cell={entry.id} is not a claim "
                f"that compares trained arms. These are: {able}."
            )
    is_default = asked.seed == Reproduce.model_fields["seed"].default
    if not is_default and not any(_trains_asked_seeds(one) for one in entries):
        raise ConfigError(
            f"seed={list(asked.seed)} is for cells that are trained; cell={entries[0].id} takes "
            "its seeds from its paper's file. Leave seed out, or change a copy: papers=FILE."
        )
    worst = 0
    for entry in entries:
        for line in (entry.id, *_described(entry)):
            session.say(line)
        try:
            found = _judged(entry, asked, session)
        except (Stopped, KeyboardInterrupt):
            session.is_stopped = True
            session.say("Stopped. The same command goes on from here.")
            break
        session.say(str(found))
        worst = max(worst, int(found.verdict in _CONTRADICTS))
    return worst


def _is_wanted(entry: Described, asked: Reproduce) -> bool:
    if asked.kind is not None and entry.kind != asked.kind:
        return False
    return asked.find is None or asked.find.lower() in f"{entry.paper} {entry.id}".lower()


def _is_baseline(entry: Described) -> bool:
    return isinstance(entry, PaperCell) and bool(entry.by)


def _trains_asked_seeds(entry: Described) -> bool:
    return isinstance(entry, PaperCell) and not entry.by


def _compares_arms(entry: Described) -> bool:
    return isinstance(entry, Claim) and entry.seeds is not None


def _refuse(entry: Described, asked: Reproduce) -> None:
    """Refuse an entry that cannot be run as requested, before anything is run."""
    if isinstance(entry, Contradiction):
        cells = f"cell={entry.of[0]}" if entry.of else "kind=cell"
        raise ConfigError(
            f"cell={entry.id} is a contradiction between published values ({entry.printed_value})"
            f" and is not run. Try one of its cells, e.g. {cells}."
        )
    is_cell = isinstance(entry, PaperCell)
    if is_cell and entry.expected_s > EXPENSIVE_S and asked.budget is None:
        raise ConfigError(
            f"cell={entry.id} costs about {format_duration(entry.expected_s)} on two cores. Say "
            "budget=20m to see how far it gets, or a larger one; the same command goes on."
        )


def _judged(entry: Described, asked: Reproduce, session: Session) -> Judgement:
    # Imported late, because it imports torch, which takes seconds and a list does not need.
    from bench.studies.reproduce.running import run_cell, run_function

    if isinstance(entry, Contradiction) or (isinstance(entry, PaperCell) and entry.not_comparable):
        return judgement(entry, (), asked.stores)
    if isinstance(entry, Claim) or entry.by:
        return run_function(entry, asked, session, Looks() if asked.until else None)
    return run_cell(entry, asked, session)


def _described(entry: Described) -> Iterator[str]:
    """The source of an entry, and how it is run differently from the published one."""
    if isinstance(entry, Claim):
        yield f"{entry.paper}, {entry.where}: {entry.sentence}"
        yield f"refuted by: {entry.refuted_by or 'not said'}"
    elif isinstance(entry, PaperCell):
        yield f"{entry.paper}, {entry.where}: {entry.what}"
        yield (
            f"published {entry.printed_value} ({entry.obtained}), "
            f"the same within {100 * entry.tolerance:g}"
        )
        if entry.protocol:
            yield f"follows {entry.protocol.code}"
        for line in (*(entry.protocol.deviations if entry.protocol else ()), *entry.deviations):
            yield f"- {line}"


def _print_list(
    console: Console,
    entries: Sequence[Described],
    records: Sequence[Record],
    stores: Sequence[Path],
) -> None:
    """Print a line per entry, baselines apart, and the number of entries with each verdict."""
    ends = []
    for is_baseline, own in sorted(grouped(entries, _is_baseline).items()):
        if is_baseline:
            console.print("\nBaselines", style="bold")
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
            table.add_row(entry.id, what, entry.printed_value, entry.cost, words, style=style)
        console.print(table)
        ended = ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common())
        ends.append(f"{len(own)} {'baselines' if is_baseline else 'described'}: {ended}.")
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
