"""Diagnostics of attention, as lines of a file that anybody may have written. No torch."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from annotated_types import Len

from bench.core.cli.limits import Name, Rule, Text
from bench.core.lines import Lines
from bench.core.statistics import mean_interval

FILE = "diagnostics.jsonl"
RANDOM = "random"
"""`Number.inputs` of random queries and keys; a trained layer's is such as ``recall, layer 0``."""
NORM = "norm "
"""Prefix of `Number.at` for entropy in the sweep of norms, as ``norm 0.5``."""
MAX_BYTES = 2**25
"""Largest size of a file, in bytes: all mechanisms with a dozen layers each take a tenth of it."""
MAX_NUMBER = 1e100
"""Largest magnitude of a sample; its square, which intervals need, is still finite."""

_NUM_SHOWN = 5

Sample = Annotated[float, Rule(lambda value: abs(value) <= MAX_NUMBER, "within 1e100 of 0")]


@dataclass(frozen=True, kw_only=True)
class Number:
    """One measure of one mechanism in one condition.

    Attributes:
        inputs: `RANDOM`, or the trained layer whose own queries and keys they are.
        measure: its name, as in `bench.studies.diagnostics.look`.
        at: the condition: a norm, a factor, a dtype and a length; empty where there is only one.
        samples: one per seed; None if it is not finite, as the error of an infinite output.
    """

    attention: Name
    inputs: Name
    measure: Name
    at: Text
    samples: Annotated[tuple[Sample | None, ...], Len(1, 1000)]

    @property
    def mean(self) -> float | None:
        """Mean over seeds; None if a seed has no number."""
        known = [x for x in self.samples if x is not None]
        return sum(known) / len(known) if known and len(known) == len(self.samples) else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % interval of the mean; None with fewer than two seeds, or if one has no number."""
        known = [x for x in self.samples if x is not None]
        return mean_interval(known) if len(known) == len(self.samples) else None

    @property
    def norm(self) -> float | None:
        """Norm that all queries were scaled to in the sweep of norms; None for other measures.

        Raises:
            ValueError: `at` begins with `NORM`, and no norm follows.
        """
        if self.measure != "entropy" or not self.at.startswith(NORM):
            return None
        try:
            norm = float(self.at.removeprefix(NORM))
        except ValueError:
            norm = math.nan
        if not 0 < norm <= MAX_NUMBER:
            raise ValueError(f"at is {self.at!r}; it must be a norm, such as 'norm 0.5'")
        return norm


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """A row and inputs without numbers, and the reason as a sentence."""

    attention: Name
    inputs: Name
    why: Text


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where numbers come from."""

    command: Text
    settings: Annotated[tuple[Text, ...], Len(0, 100)]
    machine: Text


Line = Number | LeftOut


@dataclass(frozen=True, kw_only=True)
class Found:
    """A file's content.

    Attributes:
        bad: a sentence for each line that cannot be used.
    """

    origin: Origin | None = None
    lines: tuple[Line, ...] = ()
    bad: tuple[str, ...] = ()

    def describe(self) -> tuple[str, ...]:
        """The first of `bad`, and how many more there are."""
        more = len(self.bad) - _NUM_SHOWN
        return self.bad[:_NUM_SHOWN] + ((f"{more:,} more lines are left out.",) if more > 0 else ())


def finite(value: float | None) -> float | None:
    """The value; None if it is missing, not finite, or beyond `MAX_NUMBER`."""
    is_known = value is not None and math.isfinite(value) and abs(value) <= MAX_NUMBER
    return value if is_known else None


def write_lines(path: Path, lines: Iterable[Line], origin: Origin | None = None) -> Path:
    """Write one JSON object per line, the origin first.

    Raises:
        ConfigError: the file cannot be written.
    """
    return _file(path).write([*([origin] if origin else []), *lines])


def read_lines(path: Path, root: Path | None = None) -> Found:
    """Read the lines of a file; none if it does not exist. Invalid lines are left out.

    Raises:
        ConfigError: it cannot be read, is no regular file, or is far too large.
    """
    origin, lines, bad = None, list[Line](), list[str]()
    for number, one in _file(path, root).each(missing_ok=True, max_bytes=MAX_BYTES):
        if why := one if isinstance(one, ValueError) else _why_bad(one):
            bad.append(f"{path}, line {number} is left out: {why}.")
        elif isinstance(one, Origin):
            origin = one
        elif isinstance(one, (Number, LeftOut)):
            lines.append(one)
    return Found(origin=origin, lines=tuple(lines), bad=tuple(bad))


def _file(path: Path, root: Path | None = None) -> Lines[Line | Origin]:
    return Lines[Line | Origin](path, Line | Origin, root)


def _why_bad(one: Line | Origin) -> ValueError | None:
    """Why a well-formed line cannot be used: its `at` should be a norm, and is none."""
    try:
        _ = one.norm if isinstance(one, Number) else None
    except ValueError as error:
        return error
    return None
