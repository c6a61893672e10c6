"""The first examples of a test set, written beside the records.

`bench.measuring.tasks.answers` writes them. Imports no torch.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Interval, Len

from bench.core.cli.errors import ConfigError
from bench.core.cli.limits import Digest, Name, Number, Size, checked, parsed
from bench.core.cli.stored_files import read_inside, regular_files

MAX_BYTES = 2**25
"""Largest file, in bytes: 64 images of 320 x 320 pixels in three colours fit."""

MAX_EXAMPLES = 1024
"""Largest number of examples in a file."""

NO_ANSWER = -100
"""Target at a token without an answer; equal to that of `bench.measuring.tasks.batch`."""

Numbers = Annotated[list[Any], Len(1, MAX_EXAMPLES)]


@dataclass(frozen=True, kw_only=True)
class Examples:
    """The first examples of a test set, with their answers.

    Attributes:
        test_set: digest of the whole test set, as records hold it.
        inputs: (B, N), token ids as lists; or measured values as an object of ``shape``, ``low``,
            ``high`` and ``uint8_base64``: bytes that span the range from low to high.
        targets: (B,) or (B, A), the class of each answer; `NO_ANSWER` where there is none.
        positions: (B, A), the tokens at which answers are read, or (B, 1) if all are read at one;
            None for one answer, read from the mean over all tokens.
    """

    task: Name
    test_set: Digest
    num_examples: Annotated[int, Interval(ge=1, le=MAX_EXAMPLES)]
    inputs: Numbers | dict[str, Any]
    targets: Numbers
    positions: Numbers | None = None

    @property
    def num_asked(self) -> list[int]:
        """Number of answers of each example."""
        return [sum(answer != NO_ANSWER for answer in row) for row in self.answers]

    @property
    def answers(self) -> list[list[int]]:
        """The targets, as a list for each example."""
        return [row if isinstance(row, list) else [row] for row in self.targets]

    @property
    def contradiction(self) -> str | None:
        """First contradiction between its fields, as a sentence; None if there is none."""
        for name, rows in self._columns():
            if len(rows) != self.num_examples:
                return (
                    f"{name} are of {len(rows)} examples, and num_examples is {self.num_examples}"
                )
        if not all(_are_whole(row) for _, rows in self._columns() for row in rows):
            return "inputs, targets and positions are not all whole numbers"
        for answers, places in zip(self.answers, self.positions or (), strict=False):
            if not isinstance(places, list) or len(places) not in (1, len(answers)):
                return "targets and positions are not equally many, nor is there one position"
        return _why_no_bytes(self.inputs, self.num_examples)

    def _columns(self) -> Iterator[tuple[str, list[Any]]]:
        if isinstance(self.inputs, list):
            yield "inputs", self.inputs
        yield "targets", self.targets
        if self.positions is not None:
            yield "positions", self.positions


@dataclass(frozen=True, kw_only=True)
class _Measured:
    """Measured values as bytes that span the range from `low` to `high`."""

    shape: Annotated[list[Size], Len(1, 8)]
    low: Number
    high: Number
    uint8_base64: Annotated[str, Len(0, MAX_BYTES)]


def examples_folder(out: Path) -> Path:
    """The folder ``<out>/examples``."""
    return out / "examples"


def example_files(out: Path) -> list[Path]:
    """The files of examples under `out`, in the order of their names."""
    return regular_files(out, "examples/*.json")


def read_examples(file: Path) -> Examples:
    """Read a file of examples, whose name is the digest of their test set.

    Raises:
        ConfigError: it cannot be read, is too large, or is no such file.
    """
    try:
        content = parsed(read_inside(file.parent.parent, file, MAX_BYTES).decode())
        if not isinstance(content, dict):
            raise ValueError("it is no JSON object")
        examples = checked(Examples, content)
        if wrong := examples.contradiction:
            raise ValueError(wrong)
        if file.name != f"{examples.test_set}.json" or not examples.test_set:
            raise ValueError(f"test_set is {examples.test_set!r}, and the file is named otherwise")
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{file} is not a file of examples ({error}). Delete it; the next training on this "
            "test set writes it again."
        ) from error
    return examples


def _are_whole(row: Any) -> bool:
    """Whether a number, or every number in nested lists, is an integer of 64 bits."""
    if isinstance(row, list):
        return all(map(_are_whole, row))
    return type(row) is int and abs(row) < 2**63


def _why_no_bytes(inputs: Any, num_examples: int) -> str | None:
    """Why measured values do not fit their shape, in words; None if they do."""
    if isinstance(inputs, list):
        return None
    try:
        measured = checked(_Measured, inputs)
        num_bytes = len(base64.b64decode(measured.uint8_base64, validate=True))
    except (binascii.Error, ValueError) as error:
        return f"inputs are neither token ids nor bytes in base64: {error}"
    if measured.shape[0] != num_examples or math.prod(measured.shape) != num_bytes:
        return f"inputs have {num_bytes:,} bytes, and their shape is {measured.shape}"
    return None
