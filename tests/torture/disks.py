"""Full disks: a message, files stay whole, and the same command completes once there is room.

A disk is filled by a limit on the size of files and, where this process may mount one, for real.
"""

from __future__ import annotations

import contextlib
import functools
import os
import resource
import subprocess
import tempfile
import time
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path
from random import Random

from bench import report
from bench.core.store import records_folder
from tests.damaged_stores import originals
from tests.torture.settled import fault_of_store
from tests.torture.trial import SWEEP, Trial, end, here, start

PAGE = 4096
"""Bytes of a page; a file on a tmpfs takes a multiple of it."""

LIMIT, MOUNT = "a file size limit", "a full tmpfs"
MOMENTS = ("at the start", "in the middle")


def disks(count: int, draw: Random, folder: Path) -> Iterator[Trial]:
    """`count` full disks: at the start of a sweep, in the middle, and at each file of a report."""
    kinds = [LIMIT, MOUNT] if _can_mount(folder) else [LIMIT]
    cases = [(moment, kind) for moment in (*MOMENTS, *tables()) for kind in kinds]
    for number, (moment, kind) in enumerate(islice(cycle(cases), count)):
        mine = folder / str(number)
        mine.mkdir()
        with _mounted(mine / "disk") if kind == MOUNT else _plain(mine / "disk") as disk:
            is_sweep = moment in MOMENTS
            fault = _sweep(moment, kind, disk) if is_sweep else _report(moment, kind, disk)
        yield Trial(what=f"{kind} {moment if is_sweep else f'at {moment}'}", fault=fault)


# A sweep without room


def _sweep(moment: str, kind: str, disk: Path) -> str:
    words = [*SWEEP, f"out={disk / 'store'}"]
    if moment == "at the start" and kind == MOUNT:
        _fill(disk)
    process = start(words, disk.parent)
    if moment == "in the middle":
        _wait_for_a_record(process, disk / "store")
    if kind == LIMIT:
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (0, 0))
    elif moment == "in the middle":
        _fill(disk)
    ended = end(process)
    (disk / "filler").unlink(missing_ok=True)
    fault = ended.fault(2) or fault_of_store(disk / "store", is_done=False)
    if not fault and "ConfigError" not in ended.said:
        fault = f"no sentence: {ended.said}"
    again = end(start(words, disk.parent))
    return fault or again.fault(0) or fault_of_store(disk / "store", is_done=True)


def _wait_for_a_record(process: subprocess.Popen[str], out: Path) -> None:
    def is_there() -> bool:
        return any(file.stat().st_size for file in records_folder(out).glob("*.jsonl"))

    while process.poll() is None and not is_there():
        time.sleep(0.01)


# A report without room


def _report(table: str, kind: str, disk: Path) -> str:
    """Faults after a report without room for one file, and a second with room; or empty."""
    out = _store(disk)
    if kind == LIMIT:
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(tables()[table]) - 1, limits[1]))
        try:
            ended = here(report.main, [f"out={out}"], disk.parent)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    else:
        before = list(tables())[: list(tables()).index(table)]
        room = sum(_pages(len(tables()[name])) for name in before)
        _fill(disk, room + _pages(len(tables()[table])) - PAGE)
        ended = here(report.main, [f"out={out}"], disk.parent)
        (disk / "filler").unlink()
    fault = ended.fault(2) or _not_whole(out)
    again = here(report.main, [f"out={out}"], disk.parent)
    missing = sorted(set(tables()) - set(_files(out)))
    fault = fault or again.fault(0) or _not_whole(out)
    return fault or (f"still missing: {missing}" if missing else "")


@functools.cache
def tables() -> dict[str, bytes]:
    """Files that `bench.report` writes for `_content`, in the order of writing."""
    with tempfile.TemporaryDirectory() as folder:
        out = _store(Path(folder))
        ended = here(report.main, [f"out={out}"], Path(folder))
        if ended.code:
            raise RuntimeError(f"bench.report does not work here:\n{ended.said}")
        files = sorted(_files(out).items(), key=lambda item: item[1].stat().st_mtime_ns)
        return {name: path.read_bytes() for name, path in files}


def _content() -> bytes:
    """Lines of records of every kind of cell, and of some that failed."""
    return b"".join(record.to_json().encode() + b"\n" for record in originals())


def _store(folder: Path) -> Path:
    out = folder / "store"
    records_folder(out).mkdir(parents=True)
    (records_folder(out) / "a.jsonl").write_bytes(_content())
    return out


def _files(out: Path) -> dict[str, Path]:
    """All files of a store but its records, by their names in it."""
    files = [path for path in out.rglob("*") if path.is_file()]
    return {str(path.relative_to(out)): path for path in files if path.suffix != ".jsonl"}


def _not_whole(out: Path) -> str:
    """Sentence on files of a store that differ from those written with enough room; or empty."""
    found = {name: path.read_bytes() for name, path in _files(out).items()}
    records = (records_folder(out) / "a.jsonl").read_bytes()
    wrong = [name for name, content in found.items() if content != tables().get(name)]
    wrong += [] if records == _content() else ["records"]
    return f"not whole: {wrong}" if wrong else ""


# Disks


def _fill(disk: Path, room: int = 0) -> None:
    """Fill a disk but for `room` bytes, even while another process writes to it."""
    with (disk / "filler").open("wb", buffering=0) as file:
        while (size := _free(disk) - room) > 0:
            with contextlib.suppress(OSError):  # less is free by now, and nothing was taken
                os.posix_fallocate(file.fileno(), 0, size)
                return


def _free(disk: Path) -> int:
    found = os.statvfs(disk)
    return found.f_bavail * found.f_frsize


def _pages(size: int) -> int:
    return -(-size // PAGE) * PAGE


@contextlib.contextmanager
def _plain(folder: Path) -> Iterator[Path]:
    folder.mkdir()
    yield folder


@contextlib.contextmanager
def _mounted(folder: Path) -> Iterator[Path]:
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def _can_mount(folder: Path) -> bool:
    try:
        with _mounted(folder / "may-mount"):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False
