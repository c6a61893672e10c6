"""Launches as tables: on the terminal, as docs/results/launches.md and as CSV."""

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
    Bullets,
    Column,
    Document,
    Heading,
    Prose,
    Row,
    Table,
    Text,
    words,
)
from bench.publishing.templates import prose

RESULTS = CHECKOUT / "docs/results"
COMPILED = ("flash_attn", "xformers")
"""Packages that ship compiled kernels, whose launches cannot be noted."""
PAGE, CSV = RESULTS / "launches.md", RESULTS / "launches.csv"
CAVEAT = "Static facts of compiled code; no time follows from them."
HIDDEN = "not visible: compiled CUDA"

Answer = Mapping[str, Any]


def document(
    found: Sequence[Answer], hidden: Sequence[str], cards: Mapping[str, Answer], is_page: bool
) -> Document:
    """All launches as a document.

    Args:
        found: an answer per call.
        hidden: entries whose package ships compiled kernels.
        cards: the entries of cards.yaml.
        is_page: whether to add an introduction, and lists of notable kernels.
    """
    blocks: list[Block] = []
    if is_page and (made := [one for one in found if "error" not in one]):
        versions = ", ".join(f"{k} {v}" for k, v in made[0]["versions"].items())
        usual = next((one for one in made if not one["changed"]), made[0])
        about = prose(__file__, "introduction", **{**usual, "versions": versions})
        blocks.append(Prose(about))
        entries = {card: {x["entry"] for x in made if x["card"] == card} for card in cards}
        most = max(map(len, entries.values()))
        lines = [
            f"{cards[n]['name']}: compute capability {cards[n]['arch'] / 10}, "
            f"{cards[n]['multiprocessors']} multiprocessors, "
            f"{cards[n]['shared_bytes']:,} B of shared memory a block ({cards[n]['source']})"
            + f"; {len(few)} of {most} entries, {', '.join(sorted(few))}"
            * (len(few) < most)
            for n, few in entries.items()
            if few
        ]
        blocks += [Bullets(lines), *_lists(_rows(made, cards))]
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
    columns += [words(key) for key in ("matrix", "refused") if any(row[key] for row in rows)]
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
    }


_SIZES = ("warps", "registers", "spilled_bytes", "shared_bytes")


def _kinds(matrix: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in matrix.items()) or "none"


def _lists(rows: Sequence[Answer]) -> list[Block]:
    """Lists of kernels that leave part of a card idle, and of those without matrix instructions."""
    idle: dict[tuple[str, str], dict[str, None]] = {}
    plain: dict[str, dict[str, None]] = {}
    for row in (row for row in rows if "grid" in row):
        if row["per_sm"] < 1:
            where = f"{row['card']} at {row['seq_len']:,}"
            idle.setdefault((row["entry"], row["kernel"]), {})[where] = None
        if not row["matrix"]:
            plain.setdefault(row["entry"], {})[row["kernel"]] = None
    together: dict[str, list[str]] = {}
    for (entry, kernel), places in idle.items():
        together.setdefault(f"{entry}, {', '.join(places)}", []).append(kernel)
    return [
        Heading("Fewer blocks than multiprocessors"),
        Text(["In some configuration, on these cards, at these lengths."]),
        Bullets([f"{place}: {', '.join(kernels)}" for place, kernels in together.items()]),
        Heading("No matrix instructions"),
        Text(["In some configuration, on some card."]),
        Bullets([f"{entry}: {', '.join(kernels)}" for entry, kernels in plain.items()]),
    ]


def flat(found: Sequence[Answer], cards: Mapping[str, Answer]) -> Document:
    """A row per launch and configuration, for the CSV."""
    call = ("entry", "card", "mode", "seq_len", "batch_size", "num_heads", "num_kv_heads")
    keys = (*call, "head_dim", "dtype", "launch", "phase", "kernel", "config", "grid", "per_sm")
    columns = [words(key) for key in (*keys, *_SIZES, "matrix", "refused")]
    rows = [
        row | {"grid": "x".join(map(str, row["grid"])), "matrix": _kinds(row["matrix"])}
        if "grid" in row
        else row
        for row in _rows(found, cards)
    ]
    return Document("", [Table(columns=columns, rows=rows)])


def in_one_line(mechanism: str, requires: Sequence[str] = ()) -> str:
    """One line on the launches of a mechanism, or of its adapter to Triton kernels, by the CSV."""
    if {*requires[:1]} & {*COMPILED}:
        return HIDDEN
    for name in (mechanism, f"{mechanism}_fla"):
        if rows := [row for row in _first_calls() if row["entry"] == name]:
            launches = [{"launch": row["launch"], "phase": row["phase"]} for row in rows]
            seen = [row for row in rows if row["grid"]]
            idle = len({row["launch"] for row in seen if float(row["per_sm"]) < 1})
            plain = len({row["launch"] for row in seen if row["matrix"] == "none"})
            unseen = len({row["launch"] for row in rows if not row["grid"]})
            return (
                f"`{name}` at {int(rows[0]['seq_len']):,} tokens on {rows[0]['card'].upper()}: "
                f"{_counts({'launches': launches})}, {idle} with fewer blocks than "
                f"multiprocessors, {plain} without matrix instructions"
                f"{f', {unseen} {HIDDEN}' * (unseen > 0)}; "
                f"[each of them](../results/{PAGE.name})"
            )
    return (
        f"none listed; [launches](../results/{PAGE.name}) has those of adapters to Triton kernels"
    )


@cache
def _first_calls() -> list[dict[str, str]]:
    """Rows of the CSV on its first card at its first length."""
    with CSV.open(newline="", encoding="utf-8") as file:
        rows = [*csv.DictReader(file)]
    where = ("card", "seq_len")
    return [row for row in rows if all(row[key] == rows[0][key] for key in where)]
