"""Files with one JSON object per line, all of one kind: append, write and read. No torch.

A last line that a crash cut short is reported on standard error and skipped, and removed before
another is appended.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Generic, TypeVar, get_args

from bench.core.cli.errors import ConfigError
from bench.core.cli.files import append_whole, is_torn, write_whole
from bench.core.cli.limits import adapter, from_json

M = TypeVar("M")


class Lines(Generic[M]):
    """A file of JSON lines.

    Where the kind is a dataclass, unknown keys of a line are ignored, so that an older version can
    read what a newer one wrote.

    Args:
        path: the file.
        kind: a dataclass or a pydantic model, or a union of those that a line may be.
        mend: sentence that ends the message about an invalid line.
    """

    def __init__(self, path: Path, kind: Any, mend: str = "") -> None:
        self.path, self._mend = path, mend
        self._kinds: tuple[Any, ...] = get_args(kind) or (kind,)
        self._names = " or ".join(each.__name__ for each in self._kinds)

    def append(self, *some: M) -> None:
        """Add lines, and return once they are on disk; a failed write adds none.

        Raises:
            ConfigError: the file cannot be written.
        """
        try:
            append_whole(self.path, self.text(some).encode())
        except OSError as error:
            raise ConfigError(
                f"{self.path} cannot be written: {error.strerror}. Free space, or choose "
                "another folder."
            ) from error

    def write(self, some: Iterable[M]) -> Path:
        """Replace the whole file; returns its path.

        Raises:
            ConfigError: the file cannot be written.
        """
        return write_whole(self.path, self.text(some))

    def read(self, *, missing_ok: bool = False) -> list[M]:
        """All lines, in order; blank ones are skipped.

        Raises:
            ConfigError: the file cannot be read, or a line is invalid.
        """
        found = []
        for number, one in self.each(missing_ok=missing_ok):
            if isinstance(one, ValueError):
                words = f"{self.path}:{number} is no {self._names}: {one}. {self._mend}"
                raise ConfigError(words.rstrip())
            found.append(one)
        return found

    def each(self, *, missing_ok: bool = False) -> Iterator[tuple[int, M | ValueError]]:
        """Every line with its number, from 1; in place of an invalid one, the error.

        Raises:
            ConfigError: the file cannot be read.
        """
        if missing_ok and not self.path.exists():
            return
        try:
            rows = self.path.read_bytes().split(b"\n")
        except OSError as error:
            raise ConfigError(f"{self.path} cannot be read: {error.strerror}.") from error
        for number, row in enumerate(rows, start=1):
            if number == len(rows) and row.strip() and is_torn(row):
                place = f"{self.path}:{number}"
                print(f"{place} is left out: a crash has cut it short.", file=sys.stderr)
            elif row.strip():
                try:
                    yield number, from_json(self._kinds, row)
                except ValueError as error:
                    yield number, error

    def text(self, some: Iterable[M]) -> str:
        """The lines as they are written.

        Raises:
            ValueError: a number is NaN or infinite.
        """
        # pydantic's own dump_json silently writes NaN as null.
        kinds: list[tuple[Any, M]] = [(type(one), one) for one in some]
        flat = (adapter(kind).dump_python(one, mode="json") for kind, one in kinds)
        return "".join(json.dumps(one, allow_nan=False) + "\n" for one in flat)
