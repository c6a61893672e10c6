"""List the kernels that Triton operators launch on a card, without the card, and show them.

A child process (`noting`) lets the wrappers run on CPU tensors, compiles each kernel for the card
and notes its launch instead of making it.
"""

from __future__ import annotations

import csv
import importlib.util
import itertools
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cache
from operator import itemgetter
from pathlib import Path
from typing import Annotated, Any, Literal

from attentions.catalogue import catalogue
from bench.core.cell import DTYPES
from bench.core.cli.command import read_yaml
from bench.core.cli.errors import ConfigError
from bench.core.cli.files import write_whole
from bench.core.cli.limits import MAX_SIZE
from bench.core.format import quantity
from bench.core.grouping import grouped
from bench.core.places import CHECKOUT
from bench.core.settings import Folder, Interval, Many, Name, Settings, Some, SomeRows, Word, rows
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
from bench.studies.session import Session, run_study

COMPILED = ("flash_attn", "xformers")
"""Packages that ship compiled kernels, whose launches cannot be noted."""
RESULTS = CHECKOUT / "docs/results"
PAGE, CSV = RESULTS / "launches.md", RESULTS / "launches.csv"
CAVEAT = "Static facts of compiled code; no time follows from them."
HIDDEN = "not visible: compiled CUDA"
FEW_REGISTERS, MUCH_SPILLED = 32, 1000
"""Registers and bytes of local memory of a thread whose registers the compiler failed to allocate:
its siblings have 255 and spill less."""
SUSPICIOUS = "suspicious"

USUAL: dict[str, dict[str, Any]] = {
    "deltanet_fla": {"normalise_queries": True},
    "gated_deltanet_fla": {"normalise_queries": True},
    "nsa_fla": {"num_heads": 16, "num_kv_heads": 1},
}
"""Default settings and sizes of some rows: as the layers of flash-linear-attention call them, or
the smallest that a kernel takes."""
Size = Annotated[int, Interval(ge=1, le=MAX_SIZE)]


@cache
def cards() -> dict[str, dict[str, Any]]:
    """The cards of cards.yaml, by name."""
    return read_yaml(Path(__file__).parent / "cards.yaml")


def adapters(*packages: str) -> tuple[str, ...]:
    """Adapters to these packages of GPU kernels, by their registered names."""
    return tuple(e.name for e in catalogue() if {*e.capabilities.requires[:1]} & {*packages})


class Launches(Settings):
    """List the GPU kernels that operators launch on a card, without the card.

    Words are rows, all adapters if none is given: attnbench launches gla_fla card=[h100,a100].
    """

    attention: SomeRows = rows(*adapters("fla", *COMPILED))
    launches: Some[Name] = ()
    """Further operators, as module:function, called with q, k and v, each (B, H, N, D)."""
    card: Many[Annotated[str, Word(cards)]] = ("h100",)
    seq_len: Many[Size] = (1024,)
    batch_size: Size = 1
    num_heads: Size = 4
    num_kv_heads: Size | None = None
    head_dim: Size = 64
    dtype: Annotated[str, Word(lambda: DTYPES)] = "bfloat16"
    mode: Literal["forward", "forward_backward"] = "forward"
    configs: Some[Name] = ("first",)
    """Configurations of a tuned kernel: the first that the card takes; all, as a range; or all for
    these rows only."""
    page: bool = False
    """Write docs/results/launches.md and launches.csv, too."""
    out: Folder = Path("results/launches.jsonl")
    """Where the launches go, one JSON object per call."""
    plugins: Some[Name] = ()
    """Modules to import that register further mechanisms."""


def calls_of(asked: Launches, given: Collection[str] = ()) -> list[dict[str, Any]]:
    """The calls to make on each card; ``given`` are the keys that the command line sets.

    Raises:
        ConfigError: ``configs`` names a row that is not called.
    """
    names = {"batch_size", "num_heads", "num_kv_heads", "head_dim", "dtype", "mode", "plugins"}
    sizes = asked.model_dump(include=names) | {"operator": None, "mechanism": None, "changed": {}}
    named = [{"entry": place, "operator": place} for place in asked.launches]
    for row in asked.attention:
        changed = {
            key: value
            for key, value in USUAL.get(row.label, {}).items()
            if not {key, f"attention.{row.label}.{key}"} & {*given}
        }
        settings = row.hyperparameters | {k: v for k, v in changed.items() if k not in sizes}
        one = {"entry": row.label, "mechanism": row.mechanism, "settings": settings}
        named.append(one | {k: v for k, v in changed.items() if k in sizes} | {"changed": changed})
    calls = [sizes | one | {"seq_len": n} for one, n in itertools.product(named, asked.seq_len)]
    if unknown := {*asked.configs} - {"first", "all"} - {one["entry"] for one in named}:
        raise ConfigError(
            f"configs={min(unknown)} is none of the rows that are called. Give first, all or rows."
        )
    return [
        one | {"configs": "all" if {"all", one["entry"]} & {*asked.configs} else "first"}
        for one in calls
    ]


def kernels_path() -> str:
    """A PYTHONPATH with Triton and flash-linear-attention.

    Raises:
        ConfigError: they are neither in .kernels nor installed.
    """
    apart = CHECKOUT / ".kernels"
    ours = [path or os.getcwd() for path in sys.path]  # plugins in the current folder included
    if (apart / "triton").is_dir():
        return os.pathsep.join([str(CHECKOUT), str(apart), *ours])
    if missing := [p for p in ("triton", "fla") if importlib.util.find_spec(p) is None]:
        raise ConfigError(
            f"launches compiles kernels, which needs the package {missing[0]}, and it is not "
            "installed. Say make kernels in a checkout, or pip install 'attnbench[fla]'."
        )
    return os.pathsep.join([str(CHECKOUT), *ours])


def listed(
    calls: Sequence[dict[str, Any]], card: Mapping[str, Any], path: str, device: str | None = None
) -> Iterator[dict[str, Any]]:
    """The answers of child processes, one per call, also for a call that ends its process.

    Args:
        calls: see `calls_of`.
        card: an entry of cards.yaml.
        path: PYTHONPATH of the processes.
        device: the card's, to make and note launches; None to compile kernels only.

    Raises:
        ConfigError: there is no such operator.
    """
    env = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    # The next release of Triton has another default, so it is set explicitly.
    env |= {"PYTHONPATH": path, "TRITON_DEFAULT_FP_FUSION": "1"}
    env |= {"CUDA_VISIBLE_DEVICES": ""} if device is None else {}
    words, todo = [sys.executable, "-P", "-m", "bench.studies.launches.noting"], list(calls)
    while todo:
        request = json.dumps({"card": dict(card), "calls": todo, "device": device})
        child = subprocess.run(
            words, env=env, input=request, capture_output=True, text=True, check=False
        )
        found = [json.loads(line) for line in child.stdout.splitlines()]
        if found and "mistake" in found[0]:
            raise ConfigError(f"{found[0]['mistake']}. An operator is named as module:function.")
        yield from found
        todo = todo[len(found) :]
        if todo:
            last = (child.stderr.strip().splitlines() or ["nothing was said"])[-1]
            error = f"its process ended with {child.returncode}: {last}"
            yield todo.pop(0) | {"launches": [], "error": error}


def study(asked: Launches, session: Session) -> int:
    """List, print and write the launches; returns 1 if a call could not be made."""
    layers = {entry.name for entry in catalogue() if entry.is_layer}
    if own := [row.label for row in asked.attention if row.mechanism in layers]:
        raise ConfigError(
            f"{own[0]} owns its projections, and launches calls what takes q, k and v: a core."
        )
    hidden = [row.label for row in asked.attention if row.mechanism in adapters(*COMPILED)]
    calls = calls_of(asked, session.composed["given"])
    visible = [call for call in calls if call["entry"] not in hidden]
    path = kernels_path() if visible else ""
    found: list[dict[str, Any]] = []
    for card in asked.card if visible else ():
        session.say(f"Compiling {quantity(len(visible), 'call')} for {cards()[card]['name']} …")
        found += (one | {"card": card} for one in listed(visible, cards()[card], path))
    session.show(document(found, hidden))
    session.say(f"wrote {write_whole(asked.out, ''.join(json.dumps(x) + chr(10) for x in found))}")
    if asked.page:
        session.write(flat(found), CSV)
        session.say(f"wrote {write_whole(PAGE, summary())}")
    return int(any("error" in one for one in found))


def main(argv: list[str] | None = None) -> int:
    """Run the command; words without a value are names of rows. Returns the exit code."""
    given = sys.argv[1:] if argv is None else argv
    names = [word for word in given if "=" not in word and not word.startswith("-")]
    rest = [word for word in given if word not in names]
    if names or any(word.startswith("launches=") for word in rest):
        rest.append(f"attention=[{','.join(names)}]")
    return run_study("launches", Launches, study, rest, writes=("out",), out_is_file=True)


# --- what is shown --------------------------------------------------------------------------------

Answer = Mapping[str, Any]


def document(found: Sequence[Answer], hidden: Sequence[str]) -> Document:
    """All launches as a document.

    Args:
        found: an answer per call.
        hidden: entries whose package ships compiled kernels.
    """
    blocks: list[Block] = []
    for entry, answers in sorted(grouped(found, itemgetter("entry")).items()):
        blocks.append(Heading(entry))
        for card, same in grouped(answers, itemgetter("card")).items():
            blocks += _blocks(same, cards()[card]["name"])
    blocks += [block for name in hidden for block in (Heading(name), Text([HIDDEN]))]
    return Document("GPU launches", blocks)


def _rows(found: Sequence[Answer]) -> list[dict[str, Any]]:
    """Every launch in every configuration, with its call and with its blocks per multiprocessor."""
    rows = [{**one, **launch} for one in found for launch in one["launches"]]
    for row in (row for row in rows if "grid" in row):
        row["per_sm"] = math.prod(row["grid"]) / cards()[row["card"]]["multiprocessors"]
        is_marked = row["registers"] == FEW_REGISTERS and row["spilled_bytes"] > MUCH_SPILLED
        row["mark"] = SUSPICIOUS if is_marked else ""
    return rows


def _blocks(same: Sequence[Answer], card: str) -> Iterator[Block]:
    """The calls of one entry on one card, at all lengths."""
    first, made = same[0], [one for one in same if "error" not in one]
    changed = "".join(f", {k}={str(v).lower()}" for k, v in first["changed"].items())
    for one in (one for one in same if "error" in one):
        before = f", after {_counts(one['launches'])}" if one["launches"] else ""
        where = f"{card}, {one['seq_len']:,} tokens{changed}"
        yield Text([f"{where}: could not be called{before}. {one['error']}"])
    if not made:
        return
    lengths = " and ".join(f"{one['seq_len']:,}" for one in made)
    sizes = " and ".join(f"{one['temporary_bytes'] / 1e6:,.1f}" for one in made)
    operators = " or ".join(dict.fromkeys(f"{one['torch_operators']:,}" for one in made))
    counts = " or ".join(dict.fromkeys(_counts(one["launches"]) for one in made))
    title = (
        f"{card}, {lengths} tokens{changed}{', all configurations' * (first['configs'] == 'all')}: "
        f"{counts}, "
        f"{operators} operators of torch, {sizes} MB of temporaries"
    )
    groups = grouped(_rows(made), itemgetter("phase", "kernel"))
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


def _counts(launches: Sequence[Answer]) -> str:
    phases = {launch["launch"]: launch["phase"] for launch in launches}
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


def flat(found: Sequence[Answer]) -> Document:
    """A row per launch and configuration, for the CSV."""
    call = ("entry", "card", "mode", "seq_len", "batch_size", "num_heads", "num_kv_heads")
    keys = (*call, "head_dim", "dtype", "launch", "phase", "kernel", "config", "grid", "per_sm")
    columns = [words(key) for key in (*keys, *_SIZES, "matrix", "refused", "mark")]
    rows = [
        row | {"grid": "x".join(map(str, row["grid"])), "matrix": _kinds(row["matrix"])}
        if "grid" in row
        else row
        for row in _rows(found)
    ]
    return Document("", [Table(columns=columns, rows=rows)])


def summary() -> str:
    """Text of docs/results/launches.md, by the CSV: a line per operator."""
    places, rows = [*grouped(_stored(), _PLACE)], []
    for entry, own in grouped(_stored(), itemgetter("entry")).items():
        seen = [row for row in own if row["grid"]]
        spills = [(int(row["spilled_bytes"]), row["kernel"]) for row in seen if not row["mark"]]
        most, kernel = max(spills, default=(0, ""))
        said = f"{most:,} B, {kernel}" if most else "0 B" if spills else HIDDEN
        at = [[row for row in own if _PLACE(row) == place] for place in places]
        idle = (f"{_number(each, _is_idle)} of {_number(each, bool)}" for each in at)
        plain = str(_number(at[0], lambda row: row["matrix"] == "none"))
        marked = ", ".join(dict.fromkeys(row["kernel"] for row in seen if row["mark"]))
        rows.append((f"`{entry}`", _counts(at[0]), *idle, plain, said, marked))
    head = ["operator", "launches", *(f"idle: {c}, {int(n):,}" for c, n in places)]
    head += ["no matrix instructions", "most spilled", SUSPICIOUS]
    table = markdown_table(head, rows)
    introduction = prose(__file__, "introduction")
    return f"# GPU launches\n\n{introduction}\n\n{table}\n"


def in_one_line(mechanism: str, requires: Sequence[str] = ()) -> str:
    """One line on the launches of a mechanism, or of its adapter to Triton kernels, by the CSV."""
    if {*requires[:1]} & {*COMPILED}:
        return HIDDEN
    first = [row for row in _stored() if _PLACE(row) == _PLACE(_stored()[0])]
    for name in (mechanism, f"{mechanism}_fla"):
        if rows := [row for row in first if row["entry"] == name]:
            plain = _number(rows, lambda row: row["matrix"] == "none")
            unseen = _number(rows, lambda row: not row["grid"])
            return (
                f"`{name}` at {int(rows[0]['seq_len']):,} tokens on {rows[0]['card'].upper()}: "
                f"{_counts(rows)}, {_number(rows, _is_idle)} with fewer blocks "
                f"than multiprocessors, {plain} without matrix instructions"
                f"{f', {unseen} {HIDDEN}' * (unseen > 0)}; "
                f"[all operators](../results/{PAGE.name})"
            )
    return (
        f"none listed; [launches](../results/{PAGE.name}) has those of adapters to Triton kernels"
    )


_PLACE = itemgetter("card", "seq_len")


def _number(rows: Sequence[Answer], holds: Callable[[Answer], bool]) -> int:
    """Number of launches of which this holds in some configuration."""
    return len({row["launch"] for row in rows if holds(row)})


def _is_idle(row: Answer) -> bool:
    return bool(row["grid"]) and float(row["per_sm"]) < 1


@cache
def _stored() -> list[dict[str, str]]:
    """Rows of the CSV."""
    with CSV.open(newline="", encoding="utf-8") as file:
        return [*csv.DictReader(file)]
