"""docs/reproductions.md, from conf/paper and what is stored. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import bench
from bench.app.files import write_whole
from bench.publish.charts.plain import chart_of
from bench.publish.charts.write import write_charts
from bench.publish.format import format_duration
from bench.record import Record
from bench.reproduce.papers import Claim, Contradiction, Kind, PaperCell, Papers
from bench.reproduce.stored import Finding, judgement, read_finding, train_s
from bench.reproduce.table import cost, in_words, printed_value
from bench.reproduce.verdicts import Judgement, Verdict
from bench.store import read_records

PAGE = "reproductions.md"
FIGURES = "reproductions"
"""The folder beside the page that holds its pictures."""

_MADE = "Made by `python -m bench.reproduce page=true` from conf/paper and results/reproductions."
_ABOUT = """\
Published numbers and claims, and whether they hold in this harness. `python -m bench.reproduce`
lists all {count} with their cost; `python -m bench.reproduce cell=ID` trains or measures one and
compares it. Scores are the percentage of right answers.

- **reproduced**: our 95 % interval lies within the tolerance around the published value.
- **differs**: our interval lies outside the tolerance.
- **not resolvable**: neither; the verdict gives the number of seeds that would decide.
- **not comparable**: the published result cannot be trained or measured here, for the reason given.

With one seed, the interval covers another test set, but not another seed. The tolerance is the
reading error of a plot, or 0.5 to 2 points for a table, since no source here gives a spread over
seeds. Deviations from the sources' protocols are listed at the end.
"""


def write_page(papers: Papers, out: Path, docs: Path | None, *, is_check: bool) -> int:
    """Write the page and its pictures, or say whether it is old; returns the exit code."""
    folder = docs or Path(bench.__file__).resolve().parent.parent / "docs"
    content = page(papers, out)
    if is_check:
        file = folder / PAGE
        is_old = not file.is_file() or file.read_text(encoding="utf-8") != content
        if is_old:
            print(f"{file} is old. Run python -m bench.reproduce page=true.")
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
    judged = [(entry, judgement(entry, records, out)) for entry in papers.entries.values()]
    cells = [(entry, found) for entry, found in judged if isinstance(entry, PaperCell)]
    lines = ["# Reproductions", "", f"<!-- {_MADE} -->", "", _ABOUT.format(count=len(judged))]
    lines += ["## Cells that were run", ""]
    lines += _run_cells([(c, j) for c, j in cells if j.verdict not in _IDLE], records)
    lines += ["## Claims", ""]
    for entry, found in judged:
        if isinstance(entry, Claim):
            lines += _claim(entry, found, read_finding(out, entry.id))
    lines += ["## Where published sources contradict each other", ""]
    lines += _contradictions(papers, {entry.id: found for entry, found in judged})
    lines += ["## Described and not run", ""]
    lines += _not_run([c for c, j in cells if j.verdict is Verdict.NOT_RUN])
    lines += ["## Not comparable", ""]
    lines += _not_comparable([(c, j) for c, j in cells if j.verdict is Verdict.NOT_COMPARABLE])
    lines += ["## Protocols and their deviations", ""]
    lines += _protocols(papers)
    return "\n".join(lines).rstrip() + "\n"


_IDLE = (Verdict.NOT_RUN, Verdict.NOT_COMPARABLE)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    if not rows:
        yield from ("None.", "")
        return
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', '/') for cell in row)} |"
    yield ""


def _run_cells(
    cells: Sequence[tuple[PaperCell, Judgement]], records: Sequence[Record]
) -> Iterator[str]:
    rows = [
        (
            f"`{entry.id}`",
            f"{entry.what} ({entry.paper}, {entry.where}, {entry.read})",
            f"{printed_value(entry)} ± {100 * entry.tolerance:g}",
            in_words(found),
            "" if entry.by else format_duration(train_s(entry, records)),
        )
        for entry, found in cells
    ]
    return _table(("id", "what", "published", "verdict", "wall time of training"), rows)


def _claim(entry: Claim, found: Judgement, finding: Finding | None) -> Iterator[str]:
    yield from (f"### {entry.id}", "")
    yield from (f"> {entry.sentence} ({entry.paper}, {entry.where})", "")
    yield from (f"**{found.verdict}**{': ' if found.words else ''}{found.words}", "")
    if finding is not None:
        yield from _table(
            ("what", finding.unit or "value", "95 % interval"),
            [(row.name, row.number, row.interval) for row in finding.rows],
        )
        if finding.curves is not None:
            yield from (f"![{finding.curves.title}]({FIGURES}/{entry.id}.svg)", "")
    took = f"about {cost(entry)}"
    if finding is not None and finding.measured_at:
        duration, day = format_duration(finding.seconds), finding.measured_at[:10]
        took = f"{duration} on {finding.processor}, {day}"
    yield from (f"`python -m bench.reproduce cell={entry.id}`: {took}", "")


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
        (f"`{c.id}`", f"{c.paper}, {c.where} ({c.read})", printed_value(c), cost(c)) for c in cells
    ]
    return _table(("id", "source", "published", "estimated cost on two cores"), rows)


def _not_comparable(cells: Sequence[tuple[PaperCell, Judgement]]) -> Iterator[str]:
    rows = [
        (f"`{c.id}`", f"{c.paper}, {c.where} ({c.read})", printed_value(c), found.words)
        for c, found in cells
    ]
    return _table(("id", "source", "published", "why"), rows)


def _protocols(papers: Papers) -> Iterator[str]:
    """Each once, with the deviations that those it is like share."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for protocol in papers.protocols.values():
        groups.setdefault(protocol.deviations, []).append(protocol.name)
    for deviations, names in groups.items():
        yield f"{', '.join(f'`{name}`' for name in names)}:"
        yield from ("", *(f"- {line}" for line in deviations), "")
    own: dict[tuple[str, ...], list[str]] = {}
    for entry in papers.of_kind(Kind.CELL):
        if isinstance(entry, PaperCell) and entry.deviations:
            own.setdefault(entry.deviations, []).append(entry.id)
    for deviations, names in own.items():
        yield f"{', '.join(f'`{name}`' for name in names)}, besides:"
        yield from ("", *(f"- {line}" for line in deviations), "")
