"""Launches as tables: on the terminal, as docs/results/launches.md and as CSV."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

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

PAGE, CSV = "launches.md", "launches.csv"
CAVEAT = "Static facts of compiled code; no time follows from them."
HIDDEN = "not visible: compiled CUDA"

Answer = Mapping[str, Any]


def document(
    found: Sequence[Answer], hidden: Sequence[str], cards: Mapping[str, Answer], is_page: bool
) -> Document:
    """Everything that was found.

    Args:
        found: an answer per call.
        hidden: entries whose kernels come compiled.
        cards: the entries of cards.yaml.
        is_page: with an introduction, and lists of what stands out.
    """
    blocks: list[Block] = []
    made = [one for one in found if "error" not in one]
    if is_page and made:
        versions = ", ".join(f"{k} {v}" for k, v in made[0]["versions"].items())
        blocks.append(Prose(prose(__file__, "introduction", **{**made[0], "versions": versions})))
        names = dict.fromkeys(one["card"] for one in found)
        lines = [
            f"{cards[n]['name']}: compute capability {cards[n]['arch'] / 10}, "
            f"{cards[n]['multiprocessors']} multiprocessors, "
            f"{cards[n]['shared_bytes']:,} B of shared memory a block ({cards[n]['source']})"
            for n in names
        ]
        blocks.append(Bullets(lines))
        blocks += _lists(made, cards)
    by_entry = sorted(found, key=lambda one: str(one["entry"]))
    for entry, answers in itertools.groupby(by_entry, lambda one: str(one["entry"])):
        blocks.append(Heading(entry))
        for same in _alike(answers):
            blocks += _blocks(same, cards)
    blocks += [block for name in hidden for block in (Heading(name), Text([HIDDEN]))]
    return Document("GPU launches", blocks)


def _alike(answers: Iterable[Answer]) -> list[list[Answer]]:
    """Calls on one card with the same launches, which differ in their length only."""
    groups: dict[Any, list[Answer]] = {}
    for one in answers:
        kernels = tuple((x["launch"], x["kernel"]) for x in one["launches"])
        key = one["card"], one["mode"], dict.fromkeys(kernels).__str__(), one.get("error")
        groups.setdefault(key, []).append(one)
    return list(groups.values())


def _blocks(same: Sequence[Answer], cards: Mapping[str, Answer]) -> list[Block]:
    first = same[0]
    card = cards[first["card"]]
    lengths = " and ".join(f"{one['seq_len']:,}" for one in same)
    if "error" in first:
        return [Text([f"{card['name']}, {lengths} tokens: could not be called. {first['error']}"])]
    by_number: dict[int, list[list[Answer]]] = {}
    for one in same:
        for number, launches in itertools.groupby(one["launches"], lambda x: x["launch"]):
            by_number.setdefault(number, []).append(list(launches))
    phases = [lines[0][0]["phase"] for lines in by_number.values()]
    numbers = [(phases.count(phase), phase) for phase in dict.fromkeys(phases)]
    counts = " and ".join(f"{n} launch{'es' * (n != 1)} {phase}" for n, phase in numbers)
    sizes = " and ".join(f"{one['temporary_bytes'] / 1e6:,.1f}" for one in same)
    changed = "".join(f", {k}={str(v).lower()}" for k, v in first["changed"].items())
    title = (
        f"{card['name']}, {lengths} tokens{changed}: {counts or 'no launch of Triton'}, "
        f"{first['torch_operators']} operators of torch, {sizes} MB of temporaries"
    )
    if not by_number:
        return [Text([f"{title}; {HIDDEN}"])]
    rows = [_row(number, lines, same, card) for number, lines in by_number.items()]
    columns = [Column("launch", "#", digits=".0f"), words("kernel")]
    for one in same:
        of = f"{one['seq_len']:,}"
        columns += [Column(f"grid {of}", f"grid at {of}"), Column(f"blocks {of}", "per SM")]
    columns += [Column(key) for key in ("warps", "registers")]
    columns += [Column("spilled_bytes", "spilled", "B"), Column("shared_bytes", "shared", "B")]
    columns += [words("matrix")]
    columns += [words("refused")] if any(row["refused"] for row in rows) else []
    return [Text([CAVEAT]), Table(columns=columns, rows=rows, title=title)]


def _row(number: int, lines: list[list[Answer]], same: Sequence[Answer], card: Answer) -> Row:
    every = [launch for launches in lines for launch in launches]
    made = [launch for launch in every if "grid" in launch]
    row: dict[str, Any] = {"launch": number, "kernel": every[0]["kernel"]}
    for one, launches in zip(same, lines, strict=True):
        of, grids = f"{one['seq_len']:,}", [x["grid"] for x in launches if "grid" in x]
        row[f"grid {of}"] = _range(grids, lambda grid: "×".join(map(str, grid)), _blocks_of)
        shares = [_blocks_of(grid) / card["multiprocessors"] for grid in grids]
        row[f"blocks {of}"] = _range(shares, lambda share: f"{share:.2f}")
    for key in ("warps", "registers", "spilled_bytes", "shared_bytes"):
        row[key] = _range([launch[key] for launch in made], "{:,}".format)
    kinds = dict.fromkeys(kind for launch in made for kind in launch["matrix"])
    counts = {kind: [launch["matrix"].get(kind, 0) for launch in made] for kind in kinds}
    row["matrix"] = ", ".join(f"{_range(n, str)} {k}" for k, n in counts.items()) or "none"
    row["refused"] = "; ".join(dict.fromkeys(x["refused"] for x in every if x["refused"]))
    return row


def _blocks_of(grid: Sequence[int]) -> int:
    return grid[0] * grid[1] * grid[2]


def _range(
    values: Sequence[Any], write: Callable[[Any], str], size: Callable[[Any], float] = float
) -> str:
    """Least and most, or the one value that there is."""
    if not values:
        return ""
    least, most = write(min(values, key=size)), write(max(values, key=size))
    return least if least == most else f"{least} to {most}"


def _lists(made: Sequence[Answer], cards: Mapping[str, Answer]) -> list[Block]:
    """Kernels that leave a part of a card idle, and those without matrix instructions."""
    idle: dict[tuple[str, str], dict[str, None]] = {}
    plain: dict[str, dict[str, None]] = {}
    for one in made:
        for launch in (x for x in one["launches"] if "grid" in x):
            if _blocks_of(launch["grid"]) < cards[one["card"]]["multiprocessors"]:
                where = f"{one['card']} at {one['seq_len']:,}"
                idle.setdefault((one["entry"], launch["kernel"]), {})[where] = None
            if not launch["matrix"]:
                plain.setdefault(one["entry"], {})[launch["kernel"]] = None
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


def flat(found: Sequence[Answer]) -> Document:
    """A row per launch and configuration, for the CSV."""
    keys = ("entry", "card", "mode", "seq_len", "batch_size", "num_heads", "head_dim", "dtype")
    own = ("launch", "phase", "kernel", "config", "grid", "warps", "registers", "spilled_bytes")
    columns = [words(key) for key in (*keys, *own, "shared_bytes", "matrix", "refused")]
    rows = [
        {key: one[key] for key in keys}
        | launch
        | {
            "grid": "x".join(map(str, launch.get("grid", ()))),
            "matrix": " ".join(f"{k}:{n}" for k, n in launch.get("matrix", {}).items()),
        }
        for one in found
        for launch in one["launches"]
    ]
    return Document("", [Table(columns=columns, rows=rows)])
