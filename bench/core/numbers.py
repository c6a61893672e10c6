"""Diagnostics of attention, as lines of a file that anybody may have written. No torch.

The change of entropy over the sweep of query norms follows from them, as numbers and sentences.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from annotated_types import Len

from bench.core.cli.limits import Name, Rule, Text
from bench.core.grouping import grouped
from bench.core.lines import Lines
from bench.core.statistics import mean_interval

FILE = "diagnostics.jsonl"
RANDOM = "random"
"""`Number.inputs` of random queries and keys; a trained layer's is such as ``recall, layer 0``."""
NORM = "norm "
"""Prefix of `Number.at` for entropy in the sweep of norms, as ``norm 0.5``."""
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
        """Norm that all queries were scaled to in the sweep of norms; None for other measures."""
        is_swept = self.measure == "entropy" and self.at.startswith(NORM)
        return float(self.at.removeprefix(NORM)) if is_swept else None


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


def read_lines(path: Path) -> Found:
    """Read the lines of a file; none if it does not exist. Invalid lines are left out.

    Raises:
        ConfigError: it cannot be read.
    """
    origin, lines, bad = None, list[Line](), list[str]()
    for number, one in _file(path).each(missing_ok=True):
        if isinstance(one, ValueError):
            bad.append(f"{path}, line {number} is left out: {one}.")
        elif isinstance(one, Origin):
            origin = one
        elif isinstance(one, (Number, LeftOut)):
            lines.append(one)
    return Found(origin=origin, lines=tuple(lines), bad=tuple(bad))


def _file(path: Path) -> Lines[Line | Origin]:
    return Lines[Line | Origin](path, Line | Origin)


CHANGE = "change of entropy"


def medians(lines: Iterable[Line]) -> list[float]:
    """Medians of the norms of queries in trained models, one per row and layer, in rising order."""
    found = (line for line in lines if isinstance(line, Number))
    means = (n.mean for n in found if n.measure == "query norm" and n.inputs != RANDOM)
    return sorted(mean for mean in means if mean is not None)


def changes(lines: Sequence[Line]) -> list[Number]:
    """Change of entropy over two spans of norms, seed by seed.

    The second span is that of query norms in trained models, as far as the sweep reaches; the first
    lies below it. Without trained models there is one span, the whole sweep.
    """
    sweep = [
        (line, norm)
        for line in lines
        if isinstance(line, Number) and (norm := line.norm) is not None
    ]
    norms = sorted({norm for _, norm in sweep})
    by_place = {(number.attention, norm): number for number, norm in sweep}
    return [
        replace(by_place[row, low], measure=CHANGE, at=f"{low:g} to {high:g}", samples=samples)
        for low, high in _spans(norms, medians(lines))
        for row in dict.fromkeys(number.attention for number, _ in sweep)
        if (samples := _differences(by_place.get((row, low)), by_place.get((row, high))))
    ]


def _spans(norms: Sequence[float], own: Sequence[float]) -> list[tuple[float, float]]:
    if len(norms) < 2:
        return []
    inside = [norm for norm in norms[1:-1] if own and norm <= own[0]]
    if not inside:
        return [(norms[0], norms[-1])]
    end = next((norm for norm in norms if norm >= own[-1] and norm > inside[-1]), norms[-1])
    return [(norms[0], inside[-1]), (inside[-1], end)]


def sentences(lines: Sequence[Line]) -> list[str]:
    """One sentence per span, with rows in the order of their change, the largest fall first."""
    own, by_span = medians(lines), grouped(changes(lines), lambda number: number.at)
    said = []
    for index, (span, numbers) in enumerate(by_span.items()):
        known = [(number.mean, number.attention) for number in numbers if number.mean is not None]
        rows = ", ".join(f"{row} {mean:+.3f}" for mean, row in sorted(known))
        where = ""
        if index == 1:
            where = f" (median norms of trained queries here: {own[0]:.1f} to {own[-1]:.1f})"
        said.append(f"From norm {span}{where} entropy / ln N changes by: {rows}.")
    return said


def _differences(low: Number | None, high: Number | None) -> tuple[float | None, ...]:
    if low is None or high is None or len(low.samples) != len(high.samples):
        return ()
    pairs = zip(low.samples, high.samples, strict=True)
    return tuple(None if a is None or b is None else b - a for a, b in pairs)
