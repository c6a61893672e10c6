"""What was found, as lines of a file. No torch."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.app.files import write_whole
from bench.statistics import mean_interval

RANDOM = "random"
"""Where queries and keys come from; else a trained model's layer, as ``recall, layer 0``."""


@dataclass(frozen=True, kw_only=True)
class Number:
    """One measure of one mechanism at one place.

    Attributes:
        attention: label of the row.
        inputs: `RANDOM`, or the layer whose own queries and keys they are.
        measure: its name, as `bench.diagnostics.look` and `swapped` have them.
        at: a norm, a factor, a dtype and a length; empty where there is one only.
        samples: one a seed; None where it is no number, such as an error of an infinite output.
    """

    attention: str
    inputs: str
    measure: str
    at: str
    samples: tuple[float | None, ...]

    @property
    def mean(self) -> float | None:
        """Over seeds; None if one of them has no number."""
        known = [x for x in self.samples if x is not None]
        return sum(known) / len(known) if known and len(known) == len(self.samples) else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 %, over two seeds or more."""
        known = [x for x in self.samples if x is not None]
        return mean_interval(known) if len(known) == len(self.samples) else None


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """What has no numbers, and why, as a sentence."""

    attention: str
    inputs: str
    why: str


Line = Number | LeftOut


def finite(value: float | None) -> float | None:
    """The value, or None for what JSON has no word for."""
    return value if value is not None and math.isfinite(value) else None


def write_lines(path: Path, lines: Iterable[Line]) -> Path:
    """One JSON object a line.

    Raises:
        ConfigError: the file cannot be written.
    """
    return write_whole(path, "".join(f"{json.dumps(asdict(line))}\n" for line in lines))


def find(
    lines: Iterable[Line], attention: str, inputs: str, measure: str, at: str = ""
) -> Number | None:
    """The number of that name, if there is one."""
    wanted = (attention, inputs, measure, at)
    return next(
        (
            line
            for line in lines
            if isinstance(line, Number)
            and (line.attention, line.inputs, line.measure, line.at) == wanted
        ),
        None,
    )
