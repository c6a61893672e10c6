"""Stores of strangers with links, pipes and devices: named, and nothing behind them moves."""

from __future__ import annotations

import functools
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

from bench import merge, validate
from bench.core.store import records_folder
from tests.damaged_stores import originals
from tests.torture.trial import Ended, Trial, here

PRECIOUS = b'{"precious": 1}\n'
"""Content of files that do not belong to the store."""

PATIENCE_S = 60
"""Seconds after which a command on so small a store hangs: it waits for a pipe, or reads on."""

PLACES = (
    *("records", "records/z.jsonl", "sub/records", "calibration", "calibration/x.json"),
    *("examples", "examples/0123456789abcdef.json"),
)
KINDS: dict[str, Callable[[Path, Path], object]] = {
    "a FIFO": lambda path, _: os.mkfifo(path),
    "a link to /dev/zero": lambda path, _: path.symlink_to("/dev/zero"),
    "a link to nowhere": lambda path, _: path.symlink_to("nowhere"),
    "a link to itself": lambda path, _: path.symlink_to(path.name),
    "a link to a file": lambda path, mine: path.symlink_to(mine / "mine.jsonl"),
    "a link to a folder": lambda path, mine: path.symlink_to(mine),
    "a folder": lambda path, _: path.mkdir(),
    "depth": lambda path, _: path.write_bytes(b"[" * 100_000),
    "noise": lambda path, _: path.write_bytes(bytes(range(256)) * 9),
}
COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "validate": validate.main,
    "merge": lambda words: merge.main([words[0], "out=to"]),
}


def links(count: int, draw: Random, folder: Path) -> Iterator[Trial]:
    """`count` stores with something hostile in one place, each for one command."""
    for number in range(count):
        at = folder / str(number)
        mine = at / "elsewhere"
        out = _store(at / "store", mine)
        place, kind = draw.choice(PLACES), draw.choice(list(KINDS))
        command = draw.choice(list(COMMANDS))
        _put(out / place, kind, mine)
        before = _seen(mine)
        ended = _within_time(COMMANDS[command], at)
        fault = ended.fault(0, 2) or _moved(before, mine) or _copied(at, out / place)
        if not fault and not ended.said.strip():
            fault = "nothing was said"
        yield Trial(what=f"{kind}, {command}", fault=f"{place}: {fault}" if fault else "")
        shutil.rmtree(at)


def _store(out: Path, mine: Path) -> Path:
    """Make a store with a copy of a record, and a folder beside it."""
    records_folder(out).mkdir(parents=True)
    (records_folder(out) / "a.jsonl").write_bytes(_content())
    mine.mkdir()
    for name in ("mine.jsonl", "mine.json", "a.jsonl"):
        (mine / name).write_bytes(PRECIOUS)
        (mine / name).chmod(0o600)
    return out


@functools.cache
def _content() -> bytes:
    lines = [record.to_json().encode() + b"\n" for record in originals()[:3]]
    return b"".join([*lines, lines[0]])


def _put(path: Path, kind: str, mine: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    KINDS[kind](path, mine)


class _Late(BaseException):
    """Timeout of a command; a BaseException, so that no command catches it."""


def _within_time(main: Callable[[list[str]], int], folder: Path) -> Ended:
    def late(*_: object) -> None:
        raise _Late(f"it did not end in {PATIENCE_S} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(PATIENCE_S)
    try:
        return here(main, ["store"], folder)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _seen(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {p.name: (p.read_bytes(), p.stat().st_mode & 0o777) for p in sorted(folder.iterdir())}


def _moved(before: dict[str, tuple[bytes, int]], mine: Path) -> str:
    after = _seen(mine)
    return "" if after == before else f"files of others have changed: {sorted(after)}"


def _copied(at: Path, put: Path) -> str:
    """Sentence on a file of others that was copied into a store; empty if none was."""
    for top in ("store", "to"):
        for folder, _, names in os.walk(at / top):
            for path in (Path(folder, name) for name in names):
                is_file = path.is_file() and not path.is_symlink() and path != put
                if is_file and PRECIOUS.strip() in path.read_bytes():
                    return f"a file of others was copied to {path.relative_to(at)}"
    return ""
