"""`attnbench validate DIR`: may these results be published? What a pull request is asked.

Every line has to be a record whose fields are what they may be, see `bench.core.cli.limits`. No
time may lie below what its machine can do at best, and a score has to be that of the answers kept
with it. Needs no torch, and runs nothing of what it reads.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.core.answers import error_of_score, losses_of_examples, right_answers
from bench.core.calibration import calibration_files, read_calibration_file, with_calibration
from bench.core.cli.errors import ConfigError
from bench.core.cli.texts import visible
from bench.core.cli.values import run_words, words_and_options
from bench.core.examples import example_files, read_examples
from bench.core.format import quantity
from bench.core.record import Quality, Record, Speed
from bench.core.statistics import median
from bench.core.store import read_lines, stores_below
from bench.publishing.metrics.roofline import floor_s

USAGE = """attnbench validate DIR ...
  DIR: a folder that a sweep wrote to, or one with such folders in it
  Exit code 0 if all may be published, 2 if not: each problem with its file and line."""

FLOOR_MARGIN = 0.9
"""Margin below the floor: a ceiling was measured in another minute, at a clock that may have been
slower.
"""

HALF_A_STEP = 2**-11
"""Largest relative error of a number that is rounded to float16."""

SUMMED = 1e-5
"""Relative error of a score that a model's losses were added up to, in float32."""

MAX_SAID = 200
"""Problems that are printed."""


@dataclass(frozen=True, kw_only=True)
class ValidationReport:
    """Result for a folder and the folders below it.

    Attributes:
        counts: of ``record``, ``file``, ``calibration`` and files of ``examples``.
        problems: a sentence each, beginning with the file, and the line.
    """

    counts: Counter[str]
    problems: tuple[str, ...]


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    return run_words(_main, argv, USAGE)


def _main(words: list[str]) -> int:
    folders, _ = words_and_options(words, (), USAGE)
    if not folders:
        raise ConfigError(f"No folder is named. Usage: {USAGE}")
    reports = [validate(Path(folder)) for folder in folders]
    problems = [problem for report in reports for problem in report.problems]
    for problem in problems[:MAX_SAID]:
        print(visible(problem, 1000), file=sys.stderr)
    if len(problems) > MAX_SAID:
        print(f"... and {len(problems) - MAX_SAID:,} more.", file=sys.stderr)
    for folder, report in zip(folders, reports, strict=True):
        print(f"{folder}: {_counts(report)}")
    return 2 if problems else 0


def validate(root: Path) -> ValidationReport:
    """Everything that is stored in a folder, or in folders below it.

    Raises:
        ConfigError: there is nothing, or a file is unreadable.
    """
    found = [_of_store(out) for out in stores_below(root)]
    return ValidationReport(
        counts=sum((one.counts for one in found), Counter[str]()),
        problems=tuple(problem for one in found for problem in one.problems),
    )


def _of_store(out: Path) -> ValidationReport:
    calibrations = calibration_files(out)
    examples = example_files(out)
    problems = [
        problem for file in calibrations for problem in _damage(file, read_calibration_file)
    ]
    has_sound_calibrations = not problems
    problems += [problem for file in examples for problem in _damage(file, read_examples)]
    lines = list(read_lines(out))
    problems += [f"{line.place}: {line.problem}." for line in lines if line.record is None]
    places = [line.place for line in lines if line.record is not None]
    records = [line.record for line in lines if line.record is not None]
    if has_sound_calibrations:
        records = with_calibration(records, out)
    for place, record in zip(places, records, strict=True):
        for words in (why_below_floor(record), why_not_its_answers(record)):
            problems += [f"{place}: {words}."] if words else []
    counts = {
        "record": len(records),
        "file": len({line.file for line in lines}),
        "calibration": len(calibrations),
        "examples": len(examples),
    }
    return ValidationReport(counts=Counter(counts), problems=tuple(problems))


def _damage(file: Path, read: Callable[[Path], object]) -> Iterator[str]:
    try:
        read(file)
    except ConfigError as error:
        yield str(error)


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


def why_not_its_answers(record: Record) -> str | None:
    """A sentence about a score, or its error, that does not follow from the answers kept with it.

    None of a record that keeps no answers, such as one from before they were kept.
    """
    result = record.result
    if not isinstance(result, Quality) or not (result.answers or result.window_losses):
        return None
    size, num = result.answers_per_cluster, result.num_examples
    if size is not None and num % size:
        return f"answers_per_cluster is {size}, which does not divide the {num:,} answers"
    if result.answers and result.window_losses:
        return "it has answers, which are right or wrong, and window_losses, which are neither"
    return _why_not_these(result) if result.answers else _why_not_these_losses(result)


def _why_not_these(result: Quality) -> str | None:
    """`why_not_its_answers` for answers that are right or wrong."""
    right = right_answers(result.answers, result.num_examples)
    count, num = int(right.sum()), len(right)
    if result.unit or abs(result.accuracy * num - count) > 0.25:
        score = f"{result.accuracy:.6g} {result.unit}".rstrip()
        return f"{count:,} of its {num:,} answers are right, and its accuracy is {score}"
    if result.answers_per_cluster is None:
        return None
    sums = right.reshape(-1, result.answers_per_cluster).sum(axis=1, dtype=np.float64)
    return _why_not_this_error(result, sums, result.answers_per_cluster, 1e-9)


def _why_not_these_losses(result: Quality) -> str | None:
    """`why_not_its_answers` for a score with a unit."""
    losses = losses_of_examples(result.window_losses, result.num_examples)
    size = result.answers_per_cluster
    if size is None:
        return None
    if len(losses) * size != result.num_examples:
        return (
            f"window_losses are of {len(losses):,} examples, and {result.num_examples:,} answers "
            f"are {result.num_examples // size:,} examples of {size}"
        )
    mean, largest = float(losses.mean()), float(np.abs(losses).max())
    away = HALF_A_STEP * float(np.abs(losses).mean()) + SUMMED * abs(mean) + 2**-24
    if not result.unit or abs(mean - result.accuracy) > away:
        return (
            f"the mean of its window_losses is {mean:.6g}, and its accuracy {result.accuracy:.6g}"
        )
    # Rounding each of n losses by up to e moves their standard error by up to e / sqrt(n - 1).
    rounding = (HALF_A_STEP * largest + 2**-24) / max(1, len(losses) - 1) ** 0.5
    return _why_not_this_error(result, losses * size, size, rounding)


def _why_not_this_error(result: Quality, sums: np.ndarray, size: int, away: float) -> str | None:
    """A sentence about a `score_error` that does not follow from clusters of equal size.

    `sums`, (G,), are values added up within each cluster of `size` answers; `away` is the largest
    difference that rounding explains.
    """
    expected = error_of_score(sums, np.full(len(sums), size))
    said = result.score_error
    if (said is None) != (expected is None):
        return f"its score_error is {said}, and its answers give {expected}"
    if said is None or expected is None or abs(said - expected) <= away + SUMMED * expected:
        return None
    return f"its score_error is {said:.6g}, and its answers give {expected:.6g}"


def _counts(report: ValidationReport) -> str:
    found = [quantity(report.counts[noun], noun) for noun in ("record", "file", "calibration")]
    if num_examples := report.counts["examples"]:
        found.append(f"{quantity(num_examples, 'file')} of examples")
    return f"{', '.join(found)}; {quantity(len(report.problems), 'problem')}."


if __name__ == "__main__":
    raise SystemExit(main())
