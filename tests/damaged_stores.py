"""Stores that somebody has damaged: seeded mutations of bytes, of lines and of values.

`python -m tests.torture stores=500` makes 500 of them and prints the outcomes.
"""

import gzip
import io
import json
import random
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import redirect_stderr
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

from rich.console import Console

from attentions.catalogue import catalogue
from bench import fsck
from bench.core.calibration import with_calibration
from bench.core.cli.errors import ConfigError
from bench.core.record import Quality, Record, Speed
from bench.core.store import Store, StoreContents, read_store
from bench.publishing.config import PublishConfig, WandbConfig
from bench.publishing.publish import publish
from bench.publishing.terminal import print_leaderboard
from bench.validate import validate
from tests import records as made

VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 1, 2, 0.5, -0.5, 1e308, -1e308, 10**400, 2**64, float("nan")),
    *(float("inf"), "", "x" * 10_000, "\x1b[2J", "\ud800", "\0", "=1+1", "../../etc/passwd"),
    *("<img src=x onerror=alert(1)>", "[/red]", "1e5", [], {}, [[[]]], [1, 2], {"a": {"b": 1}}),
)
"""Values that replace another."""


@dataclass(frozen=True)
class Mutant:
    """A store's bytes after a mutation, and what was done."""

    what: str
    content: bytes


def originals() -> list[Record]:
    """A small sweep with every kind of cell, and with some that failed."""
    records = made.block_records(["softmax", "nala"], num_rounds=3, seq_len=64)
    records += made.block_records(["softmax", "nala"], num_rounds=3, seq_len=128)
    records += made.task_records(["softmax", "nala"], seeds=[0, 1])
    records += made.model_records(["original", "nala"])
    return records + made.one_of_each_failure()[:3]


def mutants(records: list[Record], count: int, seed: int = 0) -> Iterator[Mutant]:
    """`count` damaged stores, the same ones for a seed."""
    lines = [record.to_json().encode() + b"\n" for record in records]
    for index in range(count):
        draw = random.Random(f"{seed} {index}")
        mutate = draw.choice(_MUTATIONS)
        mine = list(lines)
        for _ in range(draw.choice((1, 1, 2, 5))):
            mutate(mine, draw)
        yield Mutant(f"{mutate.__name__[1:]} {seed} {index}", b"".join(mine))


def _flip_a_bit(lines: list[bytes], draw: random.Random) -> None:
    at = draw.randrange(len(lines))
    line = bytearray(lines[at])
    line[draw.randrange(len(line))] ^= 1 << draw.randrange(8)
    lines[at] = bytes(line)


def _cut_out(lines: list[bytes], draw: random.Random) -> None:
    at = draw.randrange(len(lines))
    start, end = sorted(draw.randrange(len(lines[at]) + 1) for _ in range(2))
    lines[at] = lines[at][:start] + lines[at][end:]


def _insert(lines: list[bytes], draw: random.Random) -> None:
    at = draw.randrange(len(lines))
    start = draw.randrange(len(lines[at]))
    junk = draw.choice((draw.randbytes(20), b"[" * 100_000, b"9" * 5000, b"\0" * 64, b'"', b"{}"))
    lines[at] = lines[at][:start] + junk + lines[at][start:]


def _swap_ends(lines: list[bytes], draw: random.Random) -> None:
    one, other = draw.randrange(len(lines)), draw.randrange(len(lines))
    cut, end = draw.randrange(len(lines[one])), draw.randrange(len(lines[other]))
    lines[one] = lines[one][:cut] + lines[other][end:]


def _repeat(lines: list[bytes], draw: random.Random) -> None:
    lines.insert(draw.randrange(len(lines)), draw.choice(lines))


def _give_twice(lines: list[bytes], draw: random.Random) -> None:
    at = draw.randrange(len(lines))
    name = draw.choice((b"status", b"key", b"cell", b"result", b"entry"))
    lines[at] = b'{"%s":%s,' % (name, draw.choice((b"1", b'"ok"'))) + lines[at][1:]


def _encode(lines: list[bytes], draw: random.Random) -> None:
    """Write the file as another program might."""
    whole = b"".join(lines)
    others = (
        whole.decode(errors="replace").encode("utf-16"),
        gzip.compress(whole),
        whole.replace(b"\n", draw.choice((b"\r\n", b"\r"))),
        b"[" + whole.replace(b"\n", b",") + b"]",
        b"\xef\xbb\xbf" + whole,
    )
    lines[:] = [draw.choice(others)]


def _change_a_value(lines: list[bytes], draw: random.Random) -> None:
    """Often without the digest: lines from before there was one can be damaged as well."""
    at = draw.randrange(len(lines))
    try:
        line = json.loads(lines[at])
    except ValueError:
        return
    parent, name = draw.choice(list(places_in(line)))
    choice = draw.random()
    if choice < 0.7:
        parent[name] = draw.choice(VALUES)
    elif choice < 0.85:
        del parent[name]
    elif isinstance(parent, dict):
        parent[draw.choice(("", "kind", "key", "x" * 9999, "\x1b"))] = parent.pop(name)
    else:
        parent.extend([parent[name]] * draw.choice((1, 1000)))
    if draw.random() < 0.7:
        line.pop("digest", None)
    lines[at] = json.dumps(line, separators=(",", ":")).encode() + b"\n"


def places_in(value: Any) -> Iterator[tuple[Any, Any]]:
    names = list(value) if isinstance(value, dict) else range(len(value))
    for name in names:
        yield value, name
        if isinstance(value[name], (dict, list)):
            yield from places_in(value[name])


_MUTATIONS: tuple[Callable[[list[bytes], random.Random], None], ...] = (
    *(_flip_a_bit, _cut_out, _insert, _swap_ends, _repeat, _give_twice, _encode),
    *([_change_a_value] * 5),
)


def survive(
    mutant: Mutant, records: list[Record], folder: Path, *, always_publish: bool = True
) -> str:
    """Read, publish, validate and repair a damaged store; returns the outcome in words.

    Args:
        mutant: the store.
        records: those that it was made from.
        folder: for its files.
        always_publish: publish even if all readable records are unchanged.

    Raises:
        AssertionError: a wrong or a nonsensical number was let through.
        Exception: any error of these steps but a ConfigError.
    """
    out = folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    Store(out, "a").path.write_bytes(mutant.content)
    try:
        contents = read_store(out)
    except ConfigError:
        return "refused"
    _check(mutant, records, contents)
    if always_publish or not {r.to_json() for r in contents.records} <= _texts(records):
        _publish(mutant, contents, out)
    assert bool(validate(out).problems) >= bool(contents.left_out), mutant.what
    list(fsck.check(out))
    repaired = read_store(out)
    assert _texts(repaired.records) == _texts(contents.records), mutant.what
    assert all(line.is_newer for line in repaired.left_out), mutant.what
    return "left out" if contents.left_out else "unharmed or within its range"


_catalogue = cache(catalogue)


def _publish(mutant: Mutant, contents: StoreContents, out: Path) -> None:
    text = io.StringIO()
    config = PublishConfig(
        out=out,
        metrics=("latency_s", "accuracy"),
        columns=("latency_s",),
        charts=False,
        wandb=WandbConfig(mode="disabled"),
    )
    kept = with_calibration(contents.records, out)
    # The page's facts about mechanisms are read once: they are not what is damaged here.
    with redirect_stderr(text), patch("bench.publishing.page.content.catalogue", _catalogue):
        board = publish(kept, config).board
        print_leaderboard(board, config, Console(file=text, width=100))
    for words in contents.describe():
        text.write(words)
    for name in ("leaderboard.md", "table.csv", "leaderboard.html"):
        text.write((out / name).read_text())
    assert "\x1b" not in text.getvalue() and "\0" not in text.getvalue(), mutant.what


def _texts(records: Iterable[Record]) -> set[str]:
    return {record.to_json() for record in records}


def _check(mutant: Mutant, records: list[Record], contents: StoreContents) -> None:
    """Undamaged lines are read unchanged, and no number out of its range is let through."""
    for record in contents.records:
        result = record.result
        if isinstance(result, Quality):
            assert 0 <= result.accuracy <= 1 or result.unit, mutant.what
        if isinstance(result, Speed):
            assert min(result.latency_s) > 0 and len(result.rounds) == len(result.latency_s)
    read = _texts(contents.records)
    if not mutant.what.startswith("change_a_value"):
        assert read <= _texts(records), mutant.what
    lines = set(mutant.content.decode(errors="replace").split("\n"))
    assert read >= _texts(records) & lines, mutant.what
