"""Launches as tables: on the terminal, as CSV and, by the CSV, as docs/results/launches.md."""

from __future__ import annotations

import csv
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from operator import itemgetter
from typing import Any

from bench.core.format import quantity
from bench.core.grouping import grouped
from bench.core.places import CHECKOUT
from bench.publishing.document import (
    Block,
    Column,
    Document,
    Heading,
    Row,
    Table,
    Text,
    markdown_table,
    words,
)
from bench.publishing.templates import prose

RESULTS = CHECKOUT / "docs/results"
COMPILED = ("flash_attn", "xformers")
"""Packages that ship compiled kernels, whose launches cannot be noted."""
PAGE, CSV = RESULTS / "launches.md", RESULTS / "launches.csv"
CAVEAT = "Static facts of compiled code; no time follows from them."
HIDDEN = "not visible: compiled CUDA"
FEW_REGISTERS, MUCH_SPILLED = 32, 1000
"""Registers and bytes of local memory of a thread whose registers the compiler failed to allocate:
its siblings have 255 and spill less."""
SUSPICIOUS = "suspicious"

Answer = Mapping[str, Any]


def document(
    found: Sequence[Answer], hidden: Sequence[str], cards: Mapping[str, Answer]
) -> Document:
    """All launches as a document.

    Args:
        found: an answer per call.
        hidden: entries whose package ships compiled kernels.
        cards: the entries of cards.yaml.
    """
    blocks: list[Block] = []
    by_entry = sorted(found, key=lambda one: str(one["entry"]))
    for entry, answers in itertools.groupby(by_entry, lambda one: str(one["entry"])):
        blocks.append(Heading(entry))
        for card, same in itertools.groupby(answers, lambda one: str(one["card"])):
            blocks += _blocks([*same], cards[card]["name"], cards)
    blocks += [block for name in hidden for block in (Heading(name), Text([HIDDEN]))]
    return Document("GPU launches", blocks)


def _rows(found: Sequence[Answer], cards: Mapping[str, Answer]) -> list[dict[str, Any]]:
    """Every launch in every configuration, with its call and with its blocks per multiprocessor."""
    rows = [{**one, **launch} for one in found for launch in one["launches"]]
    for row in (row for row in rows if "grid" in row):
        row["per_sm"] = math.prod(row["grid"]) / cards[row["card"]]["multiprocessors"]
        is_marked = row["registers"] == FEW_REGISTERS and row["spilled_bytes"] > MUCH_SPILLED
        row["mark"] = SUSPICIOUS if is_marked else ""
    return rows


def _blocks(same: Sequence[Answer], card: str, cards: Mapping[str, Answer]) -> Iterator[Block]:
    """The calls of one entry on one card, at all lengths."""
    first, made = same[0], [one for one in same if "error" not in one]
    changed = "".join(f", {k}={str(v).lower()}" for k, v in first["changed"].items())
    for one in (one for one in same if "error" in one):
        before = f", after {_counts(one)}" if one["launches"] else ""
        where = f"{card}, {one['seq_len']:,} tokens{changed}"
        yield Text([f"{where}: could not be called{before}. {one['error']}"])
    if not made:
        return
    lengths = " and ".join(f"{one['seq_len']:,}" for one in made)
    sizes = " and ".join(f"{one['temporary_bytes'] / 1e6:,.1f}" for one in made)
    operators = " or ".join(dict.fromkeys(f"{one['torch_operators']:,}" for one in made))
    title = (
        f"{card}, {lengths} tokens{changed}{', all configurations' * (first['configs'] == 'all')}: "
        f"{' or '.join(dict.fromkeys(map(_counts, made)))}, "
        f"{operators} operators of torch, {sizes} MB of temporaries"
    )
    groups = grouped(_rows(made, cards), itemgetter("phase", "kernel"))
    if not groups:
        yield Text([f"{title}; {HIDDEN}"])
        return
    rows = [_in_one(group) for group in groups.values()]
    columns = [words("kernel"), words("phase"), Column("launches"), Column("grid")]
    columns += [Column("per_sm", "per SM"), Column("warps"), Column("registers")]
    columns += [Column("spilled_bytes", "spilled", "B"), Column("shared_bytes", "shared", "B")]
    notes = ("matrix", "refused", "mark")
    columns += [words(key) for key in notes if any(row[key] for row in rows)]
    yield from (Text([CAVEAT]), Table(columns=columns, rows=rows, title=title))


def _counts(one: Answer) -> str:
    phases = {launch["launch"]: launch["phase"] for launch in one["launches"]}
    count = {phase: [*phases.values()].count(phase) for phase in phases.values()}
    said = [f"{quantity(n, 'launch')} {phase}" for phase, n in count.items()]
    return " and ".join(said) or "no launch of Triton"


def _in_one(rows: Sequence[Answer]) -> Row:
    """One row for all launches of a kernel, with the range of each fact."""
    made = [row for row in rows if "grid" in row]

    def span(key: str, write: Callable[[Any], str], order: Callable[[Answer], float]) -> str:
        ends = [write(end(made, key=order)[key]) for end in (min, max)] if made else []
        return " to ".join(dict.fromkeys(ends))

    numbers: dict[int, set[int]] = {}  # of launches, by length
    for row in rows:
        numbers.setdefault(row["seq_len"], set()).add(row["launch"])
    counts = sorted({len(each) for each in numbers.values()})
    refused = dict.fromkeys(row["refused"] for row in rows if row["refused"])
    return {
        "kernel": rows[0]["kernel"],
        "phase": rows[0]["phase"],
        "launches": " to ".join(f"{count:,}" for count in dict.fromkeys((counts[0], counts[-1]))),
        "grid": span("grid", lambda grid: "×".join(map(str, grid)), itemgetter("per_sm")),
        "per_sm": span("per_sm", "{:.2f}".format, itemgetter("per_sm")),
        **{key: span(key, "{:,}".format, itemgetter(key)) for key in _SIZES},
        "matrix": span("matrix", _kinds, lambda row: sum(row["matrix"].values())) or HIDDEN,
        "refused": "; ".join(refused),
        "mark": SUSPICIOUS if any(row.get("mark") for row in rows) else "",
    }


_SIZES = ("warps", "registers", "spilled_bytes", "shared_bytes")


def _kinds(matrix: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in matrix.items()) or "none"


def flat(found: Sequence[Answer], cards: Mapping[str, Answer]) -> Document:
    """A row per launch and configuration, for the CSV."""
    call = ("entry", "card", "mode", "seq_len", "batch_size", "num_heads", "num_kv_heads")
    keys = (*call, "head_dim", "dtype", "launch", "phase", "kernel", "config", "grid", "per_sm")
    columns = [words(key) for key in (*keys, *_SIZES, "matrix", "refused", "mark")]
    rows = [
        row | {"grid": "x".join(map(str, row["grid"])), "matrix": _kinds(row["matrix"])}
        if "grid" in row
        else row
        for row in _rows(found, cards)
    ]
    return Document("", [Table(columns=columns, rows=rows)])


def summary() -> str:
    """Text of docs/results/launches.md, by the CSV: a line per operator."""
    groups = grouped(_stored(), itemgetter("entry"))
    places = [*grouped(_stored(), itemgetter("card", "seq_len"))]
    rows = []
    for entry, own in groups.items():
        seen = [row for row in own if row["grid"]]
        usual = [row for row in seen if not row["mark"]]
        spills = [(int(row["spilled_bytes"]), row["kernel"]) for row in usual]
        most, kernel = max(spills, default=(0, ""))
        said = f"{most:,} B, {kernel}" if most else "0 B" if spills else HIDDEN
        at = {place: [row for row in own if _place(row) == place] for place in places}
        first = at[places[0]]
        launches = [{"launch": row["launch"], "phase": row["phase"]} for row in first]
        idle = (f"{_number(x, _is_idle)} of {_number(x, bool)}" for x in at.values())
        plain = str(_number(first, lambda row: row["matrix"] == "none"))
        marked = ", ".join(dict.fromkeys(row["kernel"] for row in seen if row["mark"]))
        rows.append((f"`{entry}`", _counts({"launches": launches}), *idle, plain, said, marked))
    head = ["operator", "launches", *(f"idle: {c}, {int(n):,}" for c, n in places)]
    head += ["no matrix instructions", "most spilled", SUSPICIOUS]
    table = markdown_table(head, rows)
    words = prose(__file__, "introduction")
    return f"# GPU launches\n\n{words}\n\n{table}\n"


def in_one_line(mechanism: str, requires: Sequence[str] = ()) -> str:
    """One line on the launches of a mechanism, or of its adapter to Triton kernels, by the CSV."""
    if {*requires[:1]} & {*COMPILED}:
        return HIDDEN
    first = _place(_stored()[0])
    for name in (mechanism, f"{mechanism}_fla"):
        if rows := [x for x in _stored() if x["entry"] == name and _place(x) == first]:
            launches = [{"launch": row["launch"], "phase": row["phase"]} for row in rows]
            plain = _number(rows, lambda row: row["matrix"] == "none")
            unseen = _number(rows, lambda row: not row["grid"])
            return (
                f"`{name}` at {int(rows[0]['seq_len']):,} tokens on {rows[0]['card'].upper()}: "
                f"{_counts({'launches': launches})}, {_number(rows, _is_idle)} with fewer blocks "
                f"than multiprocessors, {plain} without matrix instructions"
                f"{f', {unseen} {HIDDEN}' * (unseen > 0)}; "
                f"[all operators](../results/{PAGE.name})"
            )
    return (
        f"none listed; [launches](../results/{PAGE.name}) has those of adapters to Triton kernels"
    )


def _number(rows: Sequence[Mapping[str, str]], holds: Callable[[Mapping[str, str]], bool]) -> int:
    """Number of launches of which this holds in some configuration."""
    return len({row["launch"] for row in rows if holds(row)})


def _is_idle(row: Mapping[str, str]) -> bool:
    return bool(row["grid"]) and float(row["per_sm"]) < 1


def _place(row: Mapping[str, str]) -> tuple[str, str]:
    return row["card"], row["seq_len"]


@cache
def _stored() -> list[dict[str, str]]:
    """Rows of the CSV."""
    with CSV.open(newline="", encoding="utf-8") as file:
        return [*csv.DictReader(file)]
