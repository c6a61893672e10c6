"""Write docs/reproductions.md from the papers and the stored results. No torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from bench.core.cli.files import write_whole
from bench.core.format import format_duration, join_names, percent, plural, quantity
from bench.core.grouping import grouped
from bench.core.places import CHECKOUT
from bench.core.record import REFERENCE, Quality, Record
from bench.core.seed_runs import FEWEST_SEEDS
from bench.core.store import read_records
from bench.publishing.charts.plain import chart_of
from bench.publishing.charts.write import write_pictures
from bench.publishing.document import escape, markdown_table
from bench.publishing.machine import commit_of
from bench.publishing.naming import commits_in_words
from bench.publishing.templates import prose
from bench.studies.catalogue.page_writer import report_old
from bench.studies.reproduce.described import Claim, Contradiction, PaperCell
from bench.studies.reproduce.findings import read_finding
from bench.studies.reproduce.papers import Papers
from bench.studies.reproduce.runs import ends_of, origins, records_of, row_of, steps_of
from bench.studies.reproduce.stored import judgement
from bench.studies.reproduce.verdicts import Judgement, PaperVerdict

PAGE = "reproductions.md"
K = TypeVar("K")
T = TypeVar("T")


def write_page(papers: Papers, out: Path, docs: Path | None, *, is_check: bool) -> int:
    """Write the page and its pictures, or check that it is current; returns the exit code."""
    file = (docs or CHECKOUT / "docs") / PAGE
    content = page(papers, out)
    if is_check:
        return report_old({file: content}, "attnbench reproduce page=true")
    print(write_whole(file, content))
    found = {claim.id: read_finding(out, claim.id) for claim in papers.of_kind(Claim)}
    charts = [chart_of(name, one.curves) for name, one in found.items() if one and one.curves]
    for chart in write_pictures(charts, file.with_suffix("")):
        print(file.parent / chart.path)
    return 0


def page(papers: Papers, out: Path) -> str:
    """The page's text."""
    records = read_records(out, missing_ok=True)
    judged = {name: judgement(one, records, (out,)) for name, one in papers.entries.items()}
    for cell in papers.of_kind(PaperCell):
        judged[cell.id] = _with_lost_runs(cell, judged[cell.id], records)
    places = grouped(papers.of_kind(PaperCell), lambda cell: _place(cell, judged[cell.id]))

    def table(place: str, **columns: Callable[[PaperCell], str]) -> str:
        rows = [
            (f"`{cell.id}`", *(text(cell) for text in columns.values()))
            for cell in places.get(place, ())
        ]
        return _table(("id", *(name.replace("_", " ") for name in columns)), rows)

    what = {
        "what": lambda cell: f"{cell.what} ({cell.paper}, {cell.where}, {cell.obtained})",
        "published": lambda cell: f"{cell.printed_value} ± {100 * cell.tolerance:g}",
    }
    source = {
        "source": lambda cell: f"{cell.paper}, {cell.where} ({cell.obtained})",
        "published": lambda cell: cell.printed_value,
    }
    deviating = [cell for cell in papers.of_kind(PaperCell) if cell.deviations]
    text = prose(
        __file__,
        "page",
        count=len(judged),
        by_class=[*_by_class(places.get("run", ()), judged, records)],
        run=table(
            "run",
            **what,
            verdict=lambda cell: str(judged[cell.id]),
            seeds=lambda cell: str(judged[cell.id].num_seeds or ""),
            runs=lambda cell: _how(cell, records),
            wall_time_of_training=lambda cell: _took(cell, records),
        ),
        baselines=table("baseline", **what, without_training=lambda cell: str(judged[cell.id])),
        claims=[_claim(one, judged[one.id], out, records) for one in papers.of_kind(Claim)],
        contradictions=_table(
            ("what", "published", "ours", "note"),
            [_contradiction(one, judged) for one in papers.of_kind(Contradiction)],
        ),
        not_run=len(places.get(PaperVerdict.NOT_RUN, ())),
        foreign=table(
            PaperVerdict.NOT_COMPARABLE, **source, why=lambda cell: judged[cell.id].words
        ),
        followed=_by(papers.protocols.values(), lambda one: str(one.code), lambda one: one.name),
        protocols=_by(papers.protocols.values(), lambda one: one.deviations, lambda one: one.name),
        deviating=_by(deviating, lambda one: one.deviations, lambda one: one.id),
    )
    return text + "\n"


def _place(cell: PaperCell, found: Judgement) -> str:
    """Section of the page that shows a cell."""
    if found.verdict in (PaperVerdict.NOT_RUN, PaperVerdict.NOT_COMPARABLE):
        return found.verdict
    return "baseline" if cell.by else "run"


def _by_class(
    cells: Sequence[PaperCell], judged: Mapping[str, Judgement], records: Sequence[Record]
) -> Iterator[str]:
    """Verdicts on the cells of softmax attention, and on those of all other mechanisms."""
    by_class = grouped(cells, lambda cell: row_of(cell)["mechanism"] == REFERENCE)
    for is_softmax, name in ((True, "softmax attention"), (False, "other mechanisms")):
        own = by_class.get(is_softmax, [])
        counts = Counter(judged[cell.id].verdict for cell in own)
        told = ", ".join(f"{counts[each]} {each}" for each in PaperVerdict if counts[each])
        runs = {tuple(sorted(r.cell.key for r in _own(cell, records))) for cell in own}
        words = f"{len(own)} of {quantity(len(cells), 'cell')} that were run are of {name}"
        words += f", in {quantity(len(runs), 'set')} of runs" * (len(runs) < len(own))
        words += f": {told}" * bool(own)
        lost = [c.id for c in own if counts[PaperVerdict.REPRODUCED] and _lost_seeds(c, records)]
        words += f" (`{'`, `'.join(lost)}` by a run that is not evidence, see †)" if lost else ""
        if not is_softmax and not counts[PaperVerdict.REPRODUCED]:
            words += ". No efficient mechanism is reproduced yet"
        yield f"{words}."


def _lost_seeds(cell: PaperCell, records: Sequence[Record]) -> list[int]:
    """Seeds of runs whose commit is not in the repository."""
    own = ((r.cell.task.seed, commits_in_words([commit_of(r)])) for r in _own(cell, records))
    return sorted({seed for seed, commit in own if "†" in commit})


def _with_lost_runs(cell: PaperCell, found: Judgement, records: Sequence[Record]) -> Judgement:
    """The judgement, with a note on seeds whose code nobody can look up."""
    lost = _lost_seeds(cell, records)
    if not lost:
        return found
    seeds, verb = plural("seed", len(lost)), "is" if len(lost) == 1 else "are"
    note = f"{seeds} {join_names([*map(str, lost)])} {verb} not evidence (†)"
    left = found.num_seeds - len(lost)
    if found.num_seeds >= FEWEST_SEEDS > left:
        note += f", and the other {left} are too few for a verdict"
    return replace(found, notes=(*found.notes, note))


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return markdown_table(head, rows) if rows else "None."


def _by(ones: Iterable[T], key: Callable[[T], K], name: Callable[[T], str]) -> list[tuple[K, str]]:
    """Names that share something, in code."""
    groups = grouped(ones, key).items()
    return [(key, ", ".join(f"`{name(one)}`" for one in own)) for key, own in groups]


def _own(cell: PaperCell, records: Sequence[Record]) -> list[Record]:
    return [record for runs in records_of(cell, records).values() for record in runs.values()]


def _how(cell: PaperCell, records: Sequence[Record]) -> str:
    """How the stored runs were trained, and where."""
    own = _own(cell, records)
    results = [record.result for record in own if isinstance(record.result, Quality)]
    rates = sorted({float(record.cell.task.settings["learning_rate"]) for record in own})
    words = ", ".join(f"{rate:g}" for rate in rates)
    chosen = f"rate {words} (the protocol's)"
    if cell.protocol and cell.protocol.grid:
        chosen = f"rates {words} (searched in the protocol's grid)"
    ended = f"{steps_of(results)} steps, ended by {ends_of(results)}"
    return f"{chosen}; {ended}; {escape(origins(own))}"


def _took(cell: PaperCell, records: Sequence[Record]) -> str:
    """Time that its stored runs took, added up; two may have run at a time."""
    results = (record.result for record in _own(cell, records))
    return format_duration(sum(r.train_s or 0.0 for r in results if isinstance(r, Quality)))


def _claim(
    entry: Claim, found: Judgement, out: Path, records: Sequence[Record]
) -> dict[str, object]:
    """Values of a claim's passage; without a stored finding it has no table."""
    finding = read_finding(out, entry.id)
    values: dict[str, object] = {"entry": entry, "verdict": found.verdict}
    values |= {"words": "; ".join(filter(None, (found.words, *found.notes))), "finding": finding}
    took = f"about {entry.cost}"
    if finding is not None:
        head: tuple[str, ...] = ("what", finding.unit or "value", "95 % interval")
        rows: list[tuple[str, ...]] = [(r.name, r.number, r.interval) for r in finding.rows]
        if any(row.training for row in finding.rows):
            head = (*head, "training")
            rows = [(*cells, row.training) for cells, row in zip(rows, finding.rows, strict=True)]
        values["table"] = _table(head, rows)
        if finding.measured_at:
            duration, day = format_duration(finding.seconds), finding.measured_at[:10]
            took = f"{duration} on {finding.processor}, {day}, {finding.commits}"
            if finding.trained_commits:
                took = (
                    f"trained in {duration} on {finding.processor}, {finding.commits}; judged {day}"
                )
    return values | {"took": escape(took), "beside": _beside(entry, records)}


def _beside(entry: Claim, records: Sequence[Record]) -> str:
    """Table of the stored runs with the settings that the entry shows beside its finding."""
    wanted = {key: value for key, value in entry.beside.items() if key != "task"}
    own = [
        record
        for record in records
        if entry.beside
        and record.cell.is_task
        and record.cell.task.label.partition(" ")[0] == entry.beside["task"]
        # A setting that a record lacks was added later, and was off before.
        and all((record.cell.task.settings.get(k) or False) == v for k, v in wanted.items())
        and isinstance(record.result, Quality)
    ]
    if not own:
        return ""
    rows = []
    for name, runs in grouped(own, lambda record: record.cell.entry).items():
        scores = sorted(r.result.accuracy for r in runs if isinstance(r.result, Quality))
        rates = sorted({float(record.cell.task.settings["learning_rate"]) for record in runs})
        tried = ", ".join(f"{rate:g}" for rate in rates) + " (not searched)" * (len(rates) == 1)
        rows.append((name, " ".join(map(percent, scores)), tried, escape(origins(runs))))
    settings = ", ".join(f"{key}={str(value).lower()}" for key, value in wanted.items())
    head = ("attention", "right answers of each seed (%)", "learning rate", "runs")
    words = f"Stored runs of {entry.beside['task']} with {settings}, no part of the verdict:"
    return f"{words}\n\n{_table(head, sorted(rows))}"


def _contradiction(entry: Contradiction, judged: Mapping[str, Judgement]) -> tuple[str, ...]:
    values = "; ".join(f"{source}: {value}" for source, value in entry.values.items())
    idle = (PaperVerdict.NOT_RUN, PaperVerdict.NOT_COMPARABLE)
    ours = (f"`{name}` {judged[name]}" for name in entry.of if judged[name].verdict not in idle)
    return (entry.what, values, "; ".join(ours), entry.note)
