"""`attnbench merge FROM... out=TO`: records of several stores as one.

Lines are taken over as they are, into a file beside those that the target has; the stores merged
from are left alone, and merging twice is merging once. Of two records of one cell that were made
with the same things the newer one wins, and the other one is named. Files of calibrations and of
examples come along; those that the target has stay as they are. Needs no torch.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.core.calibration import calibration_files, read_calibration_file
from bench.core.cli.errors import MAX_MESSAGE, ConfigError
from bench.core.cli.files import write_whole
from bench.core.cli.stored_files import read_inside
from bench.core.cli.texts import visible
from bench.core.cli.values import run_words, words_and_options
from bench.core.examples import example_files, examples_folder, read_examples
from bench.core.format import quantity
from bench.core.record import Record
from bench.core.store import MAX_NAMED, Line, read_lines, records_folder

USAGE = """attnbench merge FROM ... out=TO
  FROM: folders that sweeps wrote to
  out: the folder that gets all of their records, beside those that it has
  Exit code 0; 2 if a line of FROM is left out because it holds no record."""


@dataclass(frozen=True, kw_only=True)
class Merged:
    """Result of a merge.

    Attributes:
        known: those that it had already.
        conflicts: a sentence for each record that lost against a newer one of another store, and
            for each file of examples that was not taken over.
        left_out: lines that hold no record.
    """

    added: int
    known: int
    conflicts: tuple[str, ...]
    left_out: tuple[Line, ...]


Newest = dict[tuple[object, ...], tuple[Line, Record]]
"""The newest record of each measurement, see `_identity`."""


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    return run_words(_main, argv, USAGE)


def _main(words: list[str]) -> int:
    folders, options = words_and_options(words, ("out",), USAGE)
    if not folders or "out" not in options:
        raise ConfigError(f"merge takes folders, and out=TO. Usage: {USAGE}")
    merged = merge([Path(folder) for folder in folders], Path(options["out"]))
    for line in merged.left_out[:MAX_NAMED]:
        print(visible(line.why_left_out, MAX_MESSAGE), file=sys.stderr)
    for sentence in merged.conflicts:
        print(visible(sentence, MAX_MESSAGE))
    counts = [
        f"{quantity(merged.added, 'record')} added",
        f"{merged.known:,} there already",
        quantity(len(merged.conflicts), "conflict"),
        f"{quantity(len(merged.left_out), 'line')} left out",
    ]
    print(f"{options['out']}: {', '.join(counts)}.")
    return 2 if any(not line.is_torn for line in merged.left_out) else 0


def merge(sources: Sequence[Path], out: Path) -> Merged:
    """Take the records of some stores over into another.

    Raises:
        ConfigError: a store has no records, a file is unreadable or damaged, or `out` cannot be
            written.
    """
    there, _ = _newest(out)
    best, conflicts, left_out = dict(there), [], []
    known = 0
    for source in sources:
        found, bad = _newest(source)
        if not found and not bad:
            above = f" Name {source.parent}, the folder above it." * (source.name == "records")
            raise ConfigError(
                f"There are no records under {records_folder(source)}; nothing was merged.{above}"
            )
        left_out += bad
        for identity, one in found.items():
            other = best.setdefault(identity, one)
            if other[1] == one[1]:
                known += identity in there
                continue
            older, best[identity] = sorted((one, other), key=_age)
            conflicts.append(_conflict(older, best[identity]))
    new = [line for identity, (line, _) in best.items() if best[identity] != there.get(identity)]
    calibrations = _new_calibrations(sources, out)
    _write(new, out)
    for target, file in calibrations.items():
        write_whole(target, read_inside(file.parents[1], file), inside=out)
    for source in sources:
        conflicts += _copy_examples(source, out)
    return Merged(added=len(new), known=known, conflicts=tuple(conflicts), left_out=tuple(left_out))


def _newest(out: Path) -> tuple[Newest, list[Line]]:
    """The newest record of each measurement in a store, and the lines that hold no record."""
    found: Newest = {}
    left_out = []
    for line in read_lines(out):
        if line.record is None:
            left_out.append(line)
            continue
        one = (line, line.record)
        identity = _identity(line.record)
        found[identity] = max(found.get(identity, one), one, key=_age)
    return found, left_out


def _identity(record: Record) -> tuple[object, ...]:
    """Identity of a measurement: the same for a cell that was measured twice in the same way."""
    return (record.cell.key, record.cell.entry, record.freshness, _device(record))


def _device(record: Record) -> object:
    devices = record.environment.get("devices", {})
    return (record.environment.get("processor"), devices.get(record.cell.device))


def _age(one: tuple[Line, Record]) -> tuple[str, str]:
    """Sort key: start time, then the record's text, so that the order of stores does not matter."""
    return one[1].started_at, one[1].to_json()


def _conflict(older: tuple[Line, Record], newer: tuple[Line, Record]) -> str:
    return (
        f"{newer[1].cell.describe()}: {newer[0].place} of {newer[1].started_at} wins over "
        f"{older[0].place} of {older[1].started_at}."
    )


def _write(lines: Sequence[Line], out: Path) -> None:
    """Write the lines, if any, as one file that is named after a hash of its content."""
    if not lines:
        return
    content = b"".join(line.read().rstrip(b"\r\n") + b"\n" for line in lines)
    name = f"merged-{hashlib.sha256(content).hexdigest()[:16]}.jsonl"
    write_whole(records_folder(out) / name, content, inside=out)


def _new_calibrations(sources: Sequence[Path], out: Path) -> dict[Path, Path]:
    """Calibrations of machines for which the target has none, by their place there.

    Raises:
        ConfigError: one of them is damaged.
    """
    found: dict[Path, Path] = {}
    for file in (file for source in sources for file in calibration_files(source)):
        target = out / "calibration" / file.name
        if target not in found and not os.path.exists(target):
            read_calibration_file(file)
            found[target] = file
    return found


def _copy_examples(source: Path, out: Path) -> Iterator[str]:
    """Copy the examples of test sets that the target lacks; a sentence for each file left behind.

    A file is named after its test set, so files of one name should have the same bytes.
    """
    for file in example_files(source):
        target = examples_folder(out) / file.name
        try:
            read_examples(file)
        except ConfigError as error:
            yield f"{error} It was left out."
            continue
        content = read_inside(source, file)
        if not os.path.exists(target):
            write_whole(target, content, inside=out)
        elif read_inside(out, target) != content:
            yield (
                f"{file} differs from {target}, which stays: one of them was changed, or examples "
                "are drawn otherwise than they were."
            )


if __name__ == "__main__":
    raise SystemExit(main())
