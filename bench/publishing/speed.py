"""`python -m bench.publishing.speed FOLDER PAGE`: docs/speed.md, as `make speed` makes it.

It reads the records of two sweeps, under ``FOLDER/published`` and ``FOLDER/compiled``. The section
on runtimes follows from the stored records of `RUNTIMES`; `python -m tools.studies_pages speed`
writes it alone.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from attentions.catalogue import mechanism_behind
from bench.core.cli.files import write_whole
from bench.core.cli.values import run_words
from bench.core.format import number, quantity, ratio_words
from bench.core.places import CHECKOUT
from bench.core.record import REFERENCE, Record, Speed
from bench.core.statistics import Ratio
from bench.core.store import latest, read_records
from bench.publishing.document import Table, escape, pipe_table, text_table
from bench.publishing.machine import commit_of, describe_machine
from bench.publishing.metrics.marks import NOISY, marks
from bench.publishing.metrics.speedup import ratio_between, speedup
from bench.publishing.naming import commits_in_words
from bench.publishing.tables import with_marks
from bench.publishing.templates import prose

COMMANDS = """\
attnbench sweep experiment=published out=results/speed/published
attnbench sweep experiment=published scope=layer \
'attention=[softmax,flatten_layer,mlla,polaformer_pp]' out=results/speed/published
attnbench sweep experiment=compiled out=results/speed/compiled
python -m bench.publishing.speed results/speed docs/speed.md"""
"""Commands of `make speed`."""

RUNTIMES = CHECKOUT / "results" / "runtimes"
"""Store of the comparison with runtimes."""

RUNTIMES_COMMANDS = """\
attnbench sweep experiment=runtimes out=results/runtimes
python -m tools.studies_pages speed"""
"""Commands that measure it, and write its section."""

LARGEST_SHARE = {"flatten": 0.07, "nala_rope": 0.11, "nala_cosine": 0.14}
"""Goals: at most this share of softmax's time at 4,096 tokens, forward and with backward."""

Rows = Mapping[str, Mapping[str, Record]]
"""Records by row and by column."""


def speed_page(published: Sequence[Record], compiled: Sequence[Record]) -> str:
    """The page as Markdown; a cell is empty if its record has no number."""
    ours, eager, inductor = _rows(published), _rows(compiled), _rows(compiled, "inductor")
    compared = {
        name: row
        for name, row in ours.items()
        if any(_speed(record).reference != REFERENCE for record in row.values())
    }

    def over_softmax(name: str, column: str, record: Record) -> str:
        layer = name.partition(" ")[2]
        softmax = ours.get(f"{REFERENCE} {layer}".strip(), {}).get(column)
        return "" if softmax is None else _words(ratio_between(record, softmax), record)

    def both(name: str, column: str, record: Record) -> str:
        other = inductor.get(name, {}).get(column)
        ratios = speedup(record), None if other is None else speedup(other)
        return " / ".join("" if ratio is None else number(ratio.median) for ratio in ratios)

    def over_eager(name: str, column: str, record: Record) -> str:
        other = eager.get(name, {}).get(column)
        return "" if other is None else _words(ratio_between(record, other), record)

    def seconds(name: str, column: str, record: Record) -> str:
        return number(_speed(record).compile_s or 0.0)

    over_operators = _table(
        "over the authors' operators", compared, lambda n, c, r: _words(speedup(r), r)
    )
    against_softmax = _table("over softmax", compared, over_softmax)
    blocks = [
        prose(__file__, "introduction"),
        f"{_origin([*published, *compiled])} Their records are not stored. `make speed` runs:",
        f"```bash\n{COMMANDS}\n```",
        prose(__file__, "published"),
        pipe_table(over_operators),
        pipe_table(against_softmax),
        *missed_goals(over_operators, against_softmax),
        prose(__file__, "compiled"),
        pipe_table(_table("eager / compiled, over softmax", eager, both)),
        pipe_table(_table("compiled, over eager", inductor, over_eager)),
        pipe_table(_table("seconds to compile", inductor, seconds)),
    ]
    return "\n\n".join(blocks) + "\n"


def with_runtimes(page: str, records: Sequence[Record]) -> str:
    """The page with its last section made anew; without one if there are no records."""
    section = prose(__file__, "runtimes")
    kept = page.partition(section.partition("\n")[0])[0].rstrip("\n")
    if not records:
        return f"{kept}\n"
    rows = _rows(records)
    theirs = {mechanism_behind(name): row for name, row in rows.items() if name.endswith("_ort")}
    ours = {name: row for name, row in rows.items() if name in theirs}

    def both(name: str, column: str, record: Record) -> str:
        other = theirs[name].get(column)
        ratios = speedup(record), None if other is None else speedup(other)
        return " / ".join("" if ratio is None else number(ratio.median) for ratio in ratios)

    def over_ours(name: str, column: str, record: Record) -> str:
        own = ours[name].get(column)
        return "" if own is None else _words(ratio_between(record, own), record)

    blocks = [
        section,
        f"{_origin(records)} Their records are stored; these commands made them and this section:",
        f"```bash\n{RUNTIMES_COMMANDS}\n```",
        pipe_table(_table("this implementation / ONNX Runtime, over softmax", ours, both)),
        pipe_table(_table("ONNX Runtime, over this implementation", theirs, over_ours)),
    ]
    return "\n\n".join([kept, *blocks]) + "\n"


def _rows(records: Sequence[Record], compiler: str = "eager") -> Rows:
    rows: dict[str, dict[str, Record]] = {}
    for record in latest(records):
        work = record.cell.timed
        if isinstance(record.result, Speed) and work.compile == compiler:
            name = record.cell.entry + (" (layer)" if work.scope == "layer" else "")
            mode = work.mode.replace("forward_", "with ")
            rows.setdefault(name, {})[f"{mode}, {work.size:,}"] = record
    return rows


def missed_goals(over_operators: Table, over_softmax: Table) -> tuple[str, str]:
    """Text on the goals, and a table of those that were missed, judged by the printed speed-ups."""
    rows = []
    for name, column, ratio, low, high in _ratios(over_operators):
        if ratio < 1:
            found, reaches = f"{number(ratio)}x [{number(low)}, {number(high)}]", high >= 1
            rows.append((name, column, "1x the operators' speed", found, _missed(reaches)))
    for name, column, ratio, low, high in _ratios(over_softmax):
        goal = LARGEST_SHARE.get(name)
        if goal is not None and column.endswith(", 4,096") and 1 / ratio > goal:
            found, reaches = f"{1 / ratio:.3f} [{1 / high:.3f}, {1 / low:.3f}]", 1 / high <= goal
            rows.append((name, column, f"{goal} of softmax's time", found, _missed(reaches)))
    shares = ", ".join(f"{name} at most {goal}" for name, goal in LARGEST_SHARE.items())
    header = ("entry", "at", "goal", "found", "verdict")
    table = text_table(title="goals", header=header, rows=tuple(rows), num_words=3)
    return prose(__file__, "goals", shares=shares), pipe_table(table) if rows else "None is missed."


def _missed(reaches: bool) -> str:
    return "open; the interval contains it" if reaches else "missed"


def _ratios(table: Table) -> Iterator[tuple[str, str, float, float, float]]:
    """Row, column, ratio and the ends of its interval, which are the ratio itself without one."""
    for row in table.texts():
        for column, cell in zip(table.header[1:], row[1:], strict=True):
            if found := re.match(r"([\d.,]+)x(?: \[([\d.,]+), ([\d.,]+)\])?", cell):
                ratio, low, high = (
                    float((end or found[1]).replace(",", "")) for end in found.groups()
                )
                yield row[0], column, ratio, low, high


def _table(title: str, rows: Rows, cell: Callable[[str, str, Record], str]) -> Table:
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    lines = tuple(
        (name, *(cell(name, column, row[column]) if column in row else "" for column in columns))
        for name, row in rows.items()
    )
    table = text_table(title=title, header=(title, *columns), rows=lines, num_words=1)
    said = (NOISY, "checked at", "checked in")  # the page has a tilde, or says it at the top
    found = [[m for m in marks(*row.values()) if not m.startswith(said)] for row in rows.values()]
    return with_marks(table, found)


def _speed(record: Record) -> Speed:
    assert isinstance(record.result, Speed)
    return record.result


def _words(ratio: Ratio | None, record: Record) -> str:
    return ratio_words(ratio) + " ~" * (ratio is not None and _speed(record).is_noisy)


def _shape(record: Record) -> str:
    work = record.cell.kernel
    heads = f"{quantity(work.num_heads, 'head')} of {work.head_dim}"
    threads = quantity(record.cell.num_threads, "thread")
    return f"batch {work.batch_size}, {heads}, {work.dtype}, {threads}"


def _origin(records: Sequence[Record]) -> str:
    """A sentence with date, machine, shape and commit of the measurements."""
    said = (
        {record.started_at[:10] for record in records},
        {describe_machine(record) for record in records},
        {_shape(record) for record in records},
    )
    when, where, shape = (" and ".join(sorted(words)) for words in said)
    commits = commits_in_words(map(commit_of, records))
    return f"Measured {when} on {escape(where)}; {shape}, {escape(commits)}."


def main(argv: list[str] | None = None) -> int:
    """Write the page."""
    return run_words(_write, argv, __doc__ or "")


def _write(words: list[str]) -> int:
    if len(words) != 2:
        print(__doc__)
        return 2
    folder, page = map(Path, words)
    published, compiled = (read_records(folder / name) for name in ("published", "compiled"))
    runtimes = read_records(RUNTIMES, missing_ok=True)
    text = with_runtimes(speed_page(published, compiled), runtimes)
    print(f"Wrote {write_whole(page, text)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
