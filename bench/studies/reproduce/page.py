"""Write docs/reproductions.md from conf/paper and the stored results. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from bench.core.cli.files import write_whole
from bench.core.format import format_duration
from bench.core.grouping import grouped
from bench.core.places import CHECKOUT
from bench.core.record import Quality, Record
from bench.core.store import read_records
from bench.publishing.charts.plain import chart_of
from bench.publishing.charts.write import write_charts
from bench.publishing.document import markdown_table
from bench.publishing.templates import prose
from bench.studies.reproduce.described import Claim, Contradiction, Kind, PaperCell
from bench.studies.reproduce.papers import Papers
from bench.studies.reproduce.runs import ends_of, origins, records_of, steps_of
from bench.studies.reproduce.stored import Finding, judgement, read_finding, train_s
from bench.studies.reproduce.table import cost, in_words, is_baseline, printed_value
from bench.studies.reproduce.verdicts import Judgement, PaperVerdict

PAGE = "reproductions.md"
FIGURES = "reproductions"
"""Name of the folder beside the page that holds its pictures."""

_MADE = "Made by `attnbench reproduce page=true` from conf/paper and results/reproductions."


def write_page(papers: Papers, out: Path, docs: Path | None, *, is_check: bool) -> int:
    """Write the page and its pictures, or check that it is current; returns the exit code."""
    folder = docs or CHECKOUT / "docs"
    content = page(papers, out)
    if is_check:
        file = folder / PAGE
        is_old = not file.is_file() or file.read_text(encoding="utf-8") != content
        if is_old:
            print(f"{file} is old. Run attnbench reproduce page=true.")
        return int(is_old)
    print(write_whole(folder / PAGE, content))
    found = {entry.id: read_finding(out, entry.id) for entry in papers.of_kind(Kind.CLAIM)}
    drawn = [chart_of(name, f.curves) for name, f in found.items() if f and f.curves]
    files, note = write_charts(drawn, folder / FIGURES)
    for file in files:
        file.unlink() if file.name.endswith(".vl.json") else print(file)
    if note:
        print(note)
    return 0


def page(papers: Papers, out: Path) -> str:
    """The page's text."""
    records = read_records(out, missing_ok=True)
    judged = [(entry, judgement(entry, records, (out,))) for entry in papers.entries.values()]
    cells = [(entry, found) for entry, found in judged if isinstance(entry, PaperCell)]
    run = [(cell, found) for cell, found in cells if found.verdict not in _IDLE]
    lines = ["# Reproductions", "", f"<!-- {_MADE} -->", ""]
    lines += [prose(__file__, "introduction", count=len(judged)), ""]
    lines += ["## Cells that were run", ""]
    lines += _run_cells([(cell, j) for cell, j in run if not is_baseline(cell)], records)
    lines += ["## Baselines", ""]
    lines += _baselines([(cell, j) for cell, j in run if is_baseline(cell)])
    lines += ["## Claims", ""]
    for entry, found in judged:
        if isinstance(entry, Claim):
            lines += _claim(entry, found, read_finding(out, entry.id))
    lines += ["## Where published sources contradict each other", ""]
    lines += _contradictions(papers, {entry.id: found for entry, found in judged})
    lines += ["## Described and not run", ""]
    lines += _not_run([c for c, j in cells if j.verdict is PaperVerdict.NOT_RUN])
    lines += ["## Not comparable", ""]
    lines += _not_comparable([(c, j) for c, j in cells if j.verdict is PaperVerdict.NOT_COMPARABLE])
    lines += ["## Protocols and their deviations", ""]
    lines += _protocols(papers)
    return "\n".join(lines).rstrip() + "\n"


_IDLE = (PaperVerdict.NOT_RUN, PaperVerdict.NOT_COMPARABLE)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield from (markdown_table(head, rows) if rows else "None.", "")


def _run_cells(
    cells: Sequence[tuple[PaperCell, Judgement]], records: Sequence[Record]
) -> Iterator[str]:
    rows = [
        (
            f"`{entry.id}`",
            f"{entry.what} ({entry.paper}, {entry.where}, {entry.obtained})",
            f"{printed_value(entry)} ± {100 * entry.tolerance:g}",
            in_words(found),
            str(found.num_seeds or ""),
            _how(entry, records),
            format_duration(train_s(entry, records)),
        )
        for entry, found in cells
    ]
    head = ("id", "what", "published", "verdict", "seeds", "runs", "wall time of training")
    return _table(head, rows)


def _how(entry: PaperCell, records: Sequence[Record]) -> str:
    """How the stored runs were trained, and where."""
    own = [record for runs in records_of(entry, records).values() for record in runs.values()]
    results = [record.result for record in own if isinstance(record.result, Quality)]
    grid = "searched in the protocol's grid" if entry.protocol and entry.protocol.grid else ""
    rates = sorted({float(record.cell.task.settings["learning_rate"]) for record in own})
    words = ", ".join(f"{rate:g}" for rate in rates)
    chosen = f"rates {words} ({grid})" if grid else f"rate {words} (the protocol's)"
    return f"{chosen}; {steps_of(results)} steps, ended by {ends_of(results)}; {origins(own)}"


def _baselines(cells: Sequence[tuple[PaperCell, Judgement]]) -> Iterator[str]:
    rows = [
        (
            f"`{entry.id}`",
            f"{entry.what} ({entry.paper}, {entry.where}, {entry.obtained})",
            f"{printed_value(entry)} ± {100 * entry.tolerance:g}",
            in_words(found),
        )
        for entry, found in cells
    ]
    return _table(("id", "what", "published", "without training"), rows)


def _claim(entry: Claim, found: Judgement, finding: Finding | None) -> Iterator[str]:
    yield from (f"### {entry.id}", "")
    yield from (f"> {entry.sentence} ({entry.paper}, {entry.where})", "")
    refuted = entry.refuted_by or "its entry does not say"
    yield from (f"Refuted by: {refuted}", "")
    words = "; ".join((found.words, *found.notes)) if found.words else "; ".join(found.notes)
    yield from (f"**{found.verdict}**{': ' if words else ''}{words}", "")
    if finding is not None:
        head: tuple[str, ...] = ("what", finding.unit or "value", "95 % interval")
        rows: list[tuple[str, ...]] = [(r.name, r.number, r.interval) for r in finding.rows]
        if any(row.training for row in finding.rows):
            head = (*head, "training")
            rows = [(*cells, row.training) for cells, row in zip(rows, finding.rows, strict=True)]
        yield from _table(head, rows)
        if finding.curves is not None:
            yield from (f"![{finding.curves.title}]({FIGURES}/{entry.id}.svg)", "")
    took = f"about {cost(entry)}"
    if finding is not None and finding.measured_at:
        duration, day = format_duration(finding.seconds), finding.measured_at[:10]
        commit = f", commit {finding.commit[:8]}" if finding.commit else ""
        took = f"{duration} on {finding.processor}, {day}{commit}"
    until = " until=decided budget=2h" if finding is not None and finding.looks else ""
    yield from (f"`attnbench reproduce cell={entry.id}{until}`: {took}", "")


def _contradictions(papers: Papers, judged: dict[str, Judgement]) -> Iterator[str]:
    rows = []
    for entry in papers.of_kind(Kind.CONTRADICTION):
        assert isinstance(entry, Contradiction)
        values = "; ".join(f"{source}: {value}" for source, value in entry.values)
        ours = [
            f"`{name}` {in_words(judged[name])}"
            for name in entry.of
            if judged[name].verdict not in _IDLE
        ]
        rows.append((entry.what, values, "; ".join(ours), entry.note))
    return _table(("what", "published", "ours", "note"), rows)


def _not_run(cells: Sequence[PaperCell]) -> Iterator[str]:
    rows = [
        (f"`{c.id}`", f"{c.paper}, {c.where} ({c.obtained})", printed_value(c), cost(c))
        for c in cells
    ]
    return _table(("id", "source", "published", "estimated cost on two cores"), rows)


def _not_comparable(cells: Sequence[tuple[PaperCell, Judgement]]) -> Iterator[str]:
    rows = [
        (f"`{c.id}`", f"{c.paper}, {c.where} ({c.obtained})", printed_value(c), found.words)
        for c, found in cells
    ]
    return _table(("id", "source", "published", "why"), rows)


def _protocols(papers: Papers) -> Iterator[str]:
    """Protocols by the code that they follow, then by deviations; last, deviations of cells."""
    protocols = papers.protocols.values()
    for code, own in grouped(protocols, lambda protocol: protocol.code).items():
        yield f"{_in_code(one.name for one in own)} follow {code}."
        yield ""
    for deviations, own in grouped(protocols, lambda protocol: protocol.deviations).items():
        yield f"{_in_code(one.name for one in own)}:"
        yield from ("", *(f"- {line}" for line in deviations), "")
    entries = papers.of_kind(Kind.CELL)
    cells = (cell for cell in entries if isinstance(cell, PaperCell) and cell.deviations)
    for deviations, members in grouped(cells, lambda cell: cell.deviations).items():
        yield f"{_in_code(one.id for one in members)}, besides:"
        yield from ("", *(f"- {line}" for line in deviations), "")


def _in_code(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
