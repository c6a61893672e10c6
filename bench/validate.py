"""`python -m bench.validate DIR`: may these results be published? What a pull request is asked.

Every line has to be a record whose fields are what they may be, see `bench.app.limits`, and no time
may lie below what its machine can do at best. Needs no torch, and runs nothing of what it reads.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.app.errors import ConfigError
from bench.app.texts import visible
from bench.app.values import run_words, words_and_options
from bench.machine.calibration import read_calibration_file, with_calibration
from bench.metrics.roofline import floor_s
from bench.publish.format import quantity
from bench.record import Record, Speed
from bench.statistics import median
from bench.store import read_lines, stores_below

USAGE = """attnbench validate DIR ...
  DIR: a folder that a sweep wrote to, or one with such folders in it
  Exit code 0 if all may be published, 2 if not: each problem with its file and line."""

FLOOR_MARGIN = 0.9
"""Of the floor: a ceiling was measured in another minute, at a clock that may have been slower."""

MAX_SAID = 200
"""Problems that are printed."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What was found below a folder.

    Attributes:
        num_records: that can be used.
        num_files, num_calibrations: that were read.
        problems: a sentence each, beginning with the file, and the line.
    """

    num_records: int = 0
    num_files: int = 0
    num_calibrations: int = 0
    problems: tuple[str, ...] = ()


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    return run_words(_main, argv, USAGE)


def _main(words: list[str]) -> int:
    folders, _ = words_and_options(words, (), USAGE)
    if not folders:
        raise ConfigError(f"No folder is named. Usage: {USAGE}")
    verdicts = [validate(Path(folder)) for folder in folders]
    problems = [problem for verdict in verdicts for problem in verdict.problems]
    for problem in problems[:MAX_SAID]:
        print(problem, file=sys.stderr)
    if len(problems) > MAX_SAID:
        print(f"... and {len(problems) - MAX_SAID:,} more.", file=sys.stderr)
    for folder, verdict in zip(folders, verdicts, strict=True):
        print(f"{visible(folder, 500)}: {_counts(verdict)}")
    return 2 if problems else 0


def validate(root: Path) -> Verdict:
    """Everything that is stored in a folder, or in folders below it.

    Raises:
        ConfigError: there is nothing, or a file is unreadable.
    """
    found = [_of_store(out) for out in stores_below(root)]
    return Verdict(
        num_records=sum(one.num_records for one in found),
        num_files=sum(one.num_files for one in found),
        num_calibrations=sum(one.num_calibrations for one in found),
        problems=tuple(problem for one in found for problem in one.problems),
    )


def _of_store(out: Path) -> Verdict:
    calibrations = sorted((out / "calibration").glob("*.json"))
    problems = [problem for file in calibrations for problem in _damage(file)]
    has_sound_calibrations = not problems
    lines = list(read_lines(out))
    problems += [f"{line.place}: {line.problem}." for line in lines if line.record is None]
    places = [line.place for line in lines if line.record is not None]
    records = [line.record for line in lines if line.record is not None]
    if has_sound_calibrations:
        records = with_calibration(records, out)
    for place, record in zip(places, records, strict=True):
        if words := why_below_floor(record):
            problems.append(f"{place}: {words}.")
    return Verdict(
        num_records=len(records),
        num_files=len({line.file for line in lines}),
        num_calibrations=len(calibrations),
        problems=tuple(problems),
    )


def _damage(calibration: Path) -> Iterator[str]:
    try:
        read_calibration_file(calibration)
    except ConfigError as error:
        yield visible(str(error), 1000)


def why_below_floor(record: Record) -> str | None:
    """A sentence about a median time that is less than its machine needs at best."""
    floor = floor_s(record)
    if floor is None or not isinstance(record.result, Speed):
        return None
    latency = median(record.result.latency_s)
    if latency is None or latency >= FLOOR_MARGIN * floor:
        return None
    return (
        f"{record.cell.describe()} takes {latency:.3g} s, and {floor:.3g} s are the least that "
        "its machine's calibration allows"
    )


def _counts(verdict: Verdict) -> str:
    found = [
        quantity(verdict.num_records, "record"),
        quantity(verdict.num_files, "file"),
        quantity(verdict.num_calibrations, "calibration"),
    ]
    return f"{', '.join(found)}; {quantity(len(verdict.problems), 'problem')}."


if __name__ == "__main__":
    sys.exit(main())
