"""What was found, as lines of a file that anybody may have written. No torch."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Len

from bench.app.errors import ConfigError
from bench.app.files import write_whole
from bench.app.limits import Must, Name, Text, checked, parsed
from bench.app.stored_files import read_inside
from bench.statistics import mean_interval

FILE = "diagnostics.jsonl"
RANDOM = "random"
"""Where queries and keys come from; else a trained model's layer, as ``recall, layer 0``."""
NORM = "norm "
"""How the place of a sweep's entropy begins, as ``norm 0.5``."""
MAX_BYTES = 2**25
"""Of a file: all mechanisms with a dozen layers each take a tenth of it."""
MAX_NUMBER = 1e100
"""Squares of these, which intervals need, are still numbers."""

_NUM_SHOWN = 5

Sample = Annotated[float, Must(lambda value: abs(value) <= MAX_NUMBER, "within 1e100 of 0")]


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

    attention: Name
    inputs: Name
    measure: Name
    at: Text
    samples: Annotated[tuple[Sample | None, ...], Len(1, 1000)]

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

    @property
    def norm(self) -> float | None:
        """The norm that all queries were given, where it is one of a sweep.

        Raises:
            ValueError: the place is said to be one, and is none.
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
    """What has no numbers, and why, as a sentence."""

    attention: Name
    inputs: Name
    why: Text


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where numbers come from.

    Attributes:
        command: as it would be typed.
        settings: sentences on sizes and seeds.
        machine: where, with what and when.
    """

    command: Text
    settings: Annotated[tuple[Text, ...], Len(0, 100)]
    machine: Text


Line = Number | LeftOut


@dataclass(frozen=True, kw_only=True)
class Found:
    """A file's content.

    Attributes:
        origin: None if the file does not say.
        lines: in its order.
        bad: a sentence for each line that is none of these.
    """

    origin: Origin | None = None
    lines: tuple[Line, ...] = ()
    bad: tuple[str, ...] = ()

    def describe(self) -> tuple[str, ...]:
        """The first of `bad`, and how many more there are."""
        more = len(self.bad) - _NUM_SHOWN
        return self.bad[:_NUM_SHOWN] + ((f"{more:,} more lines are left out.",) if more > 0 else ())


def finite(value: float | None) -> float | None:
    """The value, or None for what is no number of a file."""
    is_known = value is not None and math.isfinite(value) and abs(value) <= MAX_NUMBER
    return value if is_known else None


def write_lines(path: Path, lines: Iterable[Line], origin: Origin | None = None) -> Path:
    """One JSON object a line, the origin first.

    Raises:
        ConfigError: the file cannot be written.
    """
    rows = [*([origin] if origin else []), *lines]
    return write_whole(path, "".join(f"{json.dumps(asdict(row))}\n" for row in rows))


def read_lines(path: Path, root: Path | None = None) -> Found:
    """What a file holds; nothing if there is none. Lines that are no such thing are left out.

    Args:
        path: the file.
        root: the folder of the store that it belongs to; its own folder if None.

    Raises:
        ConfigError: it cannot be read, is no regular file, or is far too large.
    """
    try:
        rows = read_inside(root or path.parent, path, MAX_BYTES).split(b"\n")
    except (FileNotFoundError, NotADirectoryError):
        return Found()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from error
    origin, lines, bad = None, list[Line](), list[str]()
    for number, row in enumerate(rows, start=1):
        try:
            for one in _read(row):
                if isinstance(one, Origin):
                    origin = one
                else:
                    lines.append(one)
        except ValueError as error:
            bad.append(f"{path}, line {number} is left out: {error}.")
    return Found(origin=origin, lines=tuple(lines), bad=tuple(bad))


def _read(row: bytes) -> Iterator[Line | Origin]:
    """Nothing of a blank line."""
    if not row.strip():
        return
    try:
        flat: Any = parsed(row.decode())
    except ValueError:
        flat = None
    if not isinstance(flat, dict):
        raise ValueError("it is no JSON object")
    names = [name for name in ("samples", "settings") if isinstance(flat.get(name), list)]
    lists = {name: tuple(flat[name]) for name in names}
    if "samples" in flat:
        number = checked(Number, flat | lists)
        _ = number.norm  # which raises where the place is no norm
        yield number
    elif "why" in flat:
        yield checked(LeftOut, flat)
    elif "command" in flat:
        yield checked(Origin, flat | lists)
    else:
        raise ValueError("it has neither samples, nor why, nor command")
