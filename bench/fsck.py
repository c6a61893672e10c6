"""`attnbench fsck DIR`: what is wrong with a store, and the repair that loses nothing.

Lines that hold no record, and second copies of one, move as they are into ``quarantine/`` beside
``records/``; so does a calibration that is damaged. Lines of a newer attnbench stay where they are.
Running it again changes nothing. Needs no torch.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.core.calibration import calibration_files, read_calibration_file
from bench.core.cli.errors import MAX_MESSAGE, ConfigError
from bench.core.cli.files import write_whole
from bench.core.cli.texts import visible
from bench.core.cli.values import run_words, words_and_options
from bench.core.format import quantity
from bench.core.store import Line, read_lines, stores_below
from bench.measuring.sharing.leases import Leases

USAGE = """attnbench fsck DIR ... [dry_run=BOOL]
  DIR: a folder that a sweep wrote to, or one with such folders in it
  dry_run: true says what is wrong and repairs nothing (false)
  Exit code 0 if all is in order, now; 1 if dry_run=true found something to repair."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A line, or a file, that does not belong where it is."""

    place: str
    what: str


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    return run_words(_main, argv, USAGE)


def _main(words: list[str]) -> int:
    folders, options = words_and_options(words, ("dry_run",), USAGE)
    is_dry = options.get("dry_run", "false")
    if not folders or is_dry not in ("true", "false"):
        raise ConfigError(f"fsck takes folders, and dry_run=true or false. Usage: {USAGE}")
    stores = [out for folder in folders for out in stores_below(Path(folder))]
    return _run(stores, is_dry == "true")


def _run(stores: Sequence[Path], is_dry: bool) -> int:
    count = 0
    for out in stores:
        for finding in check(out, is_dry=is_dry):
            count += 1
            print(visible(f"{finding.place}: {finding.what}.", MAX_MESSAGE))
    repaired = "to repair; nothing was changed (dry_run=true)" if is_dry else "repaired"
    print(f"{quantity(len(stores), 'store')}: {quantity(count, 'finding')} {repaired}.")
    return 1 if is_dry and count else 0


def check(out: Path, *, is_dry: bool = False) -> Iterator[Finding]:
    """Check a store for faults; each file is repaired before its findings are given.

    Raises:
        ConfigError: a sweep is writing to it, or a file cannot be read or written.
    """
    busy = next(iter(Leases(out).others()), None)
    if busy is not None and not is_dry:
        raise ConfigError(
            f"{out} is being written to by {busy[1].name}, which measures "
            f"{busy[1].what or busy[0]}. Wait until it has ended, or say dry_run=true."
        )
    seen: dict[bytes, str] = {}
    for file, lines in itertools.groupby(read_lines(out), key=lambda line: line.file):
        yield from _check_records(out, file, list(lines), seen, is_dry)
    for file in calibration_files(out):
        yield from _check_calibration(out, file, is_dry)


def _check_records(
    out: Path, file: Path, lines: Sequence[Line], seen: dict[bytes, str], is_dry: bool
) -> list[Finding]:
    size = file.stat().st_size
    kept: list[Line] = []
    moved: list[Line] = []
    findings: list[Finding] = []
    for line in lines:
        reason = _why_move(line, seen)
        (kept if reason is None else moved).append(line)
        if reason is not None:
            findings.append(Finding(place=line.place, what=f"{reason}; moved to quarantine/"))
        elif line.is_newer:
            print(f"{line.place} stays: {line.problem}.")
    last = lines[-1]
    if last in kept and not last.read().endswith(b"\n"):
        findings.append(Finding(place=last.place, what="its end is missing; added"))
    if findings and not is_dry:
        _quarantine(out, file, [line.read() for line in moved])
        content = b"".join(_ended(line.read()) for line in kept)
        if file.stat().st_size != size:
            raise ConfigError(f"{file} is being written to. Try again later.")
        write_whole(file, content, inside=out)
    return findings


def _why_move(line: Line, seen: dict[bytes, str]) -> str | None:
    """Reason to quarantine a line, or None; `seen` collects the first place of each record."""
    if line.is_newer:
        return None
    if line.record is None:
        return str(line.problem)
    record = hashlib.sha256(line.record.to_json().encode()).digest()
    first = seen.setdefault(record, line.place)
    return None if first == line.place else f"a copy of {first}"


def _check_calibration(out: Path, file: Path, is_dry: bool) -> list[Finding]:
    try:
        read_calibration_file(file)
    except ConfigError:
        if not is_dry:
            _quarantine(out, file, [file.read_bytes()])
            file.unlink()
        return [Finding(place=str(file), what="not a calibration; moved to quarantine/")]
    return []


def _quarantine(out: Path, file: Path, lines: Sequence[bytes]) -> None:
    """Add lines to ``quarantine/``, except those that an interrupted repair put there already."""
    path = out / "quarantine" / file.name
    content = path.read_bytes() if path.exists() else b""
    there = set(content.splitlines(keepends=True))
    new = [_ended(line) for line in lines if not there.issuperset(_ended(line).splitlines(True))]
    if new:
        write_whole(path, content + b"".join(new), inside=out)


def _ended(line: bytes) -> bytes:
    return line if line.endswith(b"\n") else line + b"\n"


if __name__ == "__main__":
    raise SystemExit(main())
