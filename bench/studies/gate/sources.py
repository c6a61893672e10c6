"""Read what ``baseline=`` and ``current=`` name: a store, or a file of records or baselines."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from bench.core.cli.errors import ConfigError
from bench.core.cli.stored_files import read_regular
from bench.core.record import Record
from bench.core.store import read_store, records_folder
from bench.studies.gate.baselines import (
    Baseline,
    baselines_of,
    is_baseline_line,
    read_baselines,
)

KINDS = "a sweep's folder (with records/ in it), or a file of records or of baselines (*.jsonl)"


@dataclass(frozen=True, kw_only=True)
class Side:
    """One side of a comparison of stored numbers.

    Attributes:
        words: where the numbers come from, and of which commit and day.
        baselines: the numbers, oldest first.
    """

    words: str
    baselines: tuple[Baseline, ...]

    @property
    def commit(self) -> str | None:
        """The commit of all numbers; None if they are of several, or of an unknown one."""
        commits = {baseline.commit for baseline in self.baselines}
        return commits.pop() if len(commits) == 1 else None

    @property
    def torch(self) -> set[str]:
        """Versions of torch that the numbers were measured with."""
        return {str(baseline.versions.get("torch")) for baseline in self.baselines}

    @property
    def entries(self) -> set[str]:
        """Labels of the entries that have numbers."""
        return {one.cell.entry for baseline in self.baselines for one in baseline.cells}


def side_of_records(records: Iterable[Record], words: str) -> Side:
    """Records as one side of a comparison, oldest first: the newest of a cell counts."""
    newest_last = sorted(records, key=lambda record: record.started_at)
    side = Side(words=words, baselines=baselines_of(newest_last))
    return replace(side, words=f"{words}, commit {side.commit[:12]}") if side.commit else side


def read_side(key: str, path: Path) -> Side:
    """Read the stored numbers that a path names; of a file of baselines, the newest one.

    Args:
        key: the configuration key that gave the path, for messages.
        path: folder or file.

    Raises:
        ConfigError: there is nothing there, or nothing that holds numbers.
    """
    if os.path.isdir(path):
        return _side_of_folder(key, path)
    text = _read_text(key, path)
    if not text.strip():
        raise ConfigError(f"{key}={path} is empty. It takes {KINDS}.")
    if is_baseline_line(text):
        if not (found := read_baselines(path)):  # its only line is cut short
            raise ConfigError(f"{key}={path} holds no baseline. It takes {KINDS}.")
        last = found[-1]
        words = f"{path}, commit {(last.commit or 'unknown')[:12]} of {last.date[:10]}"
        return Side(words=words, baselines=(last,))
    records = list(_records_in(text, path))
    if not records:  # its only line is cut short, or is no record
        raise ConfigError(f"{key}={path} holds no record. It takes {KINDS}.")
    return side_of_records(records, str(path))


def _side_of_folder(key: str, path: Path) -> Side:
    if os.path.isdir(records_folder(path)):
        contents = read_store(path)
        if contents.is_damaged:  # a verdict on the rest would look more complete than it is
            raise ConfigError("\n".join([f"{key}={path} is damaged.", *contents.describe()]))
        return side_of_records(contents.records, str(path))
    files = sorted(path.glob("*.jsonl"))
    if not files:
        raise ConfigError(f"{key}={path} is a folder without records. It takes {KINDS}.")
    texts = {file: _read_text(key, file) for file in files}
    baselines = [str(file) for file, text in texts.items() if is_baseline_line(text)]
    if baselines:
        raise ConfigError(
            f"{key}={path} holds baselines, one file for each class of machines. Name one: "
            f"{', '.join(baselines)}."
        )
    records = [record for file, text in texts.items() for record in _records_in(text, file)]
    return side_of_records(records, str(path))


def _read_text(key: str, path: Path) -> str:
    if not os.path.lexists(path):
        raise ConfigError(f"{key}={path} is not there. It takes {KINDS}.")
    try:
        return read_regular(path).decode()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{key}={path} is not a text. It takes {KINDS}.") from error
    except ConfigError as error:
        raise ConfigError(f"{key}={error} It takes {KINDS}.") from error


def _records_in(text: str, file: Path) -> Iterator[Record]:
    """The records of a file; a last line that a crash cut short is skipped."""
    lines = text.split("\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = Record.from_json(line)
        except ValueError as error:
            if number == len(lines):  # no newline follows: it was being written
                return
            raise ConfigError(
                f"{file}:{number} is not a record ({error}). It takes {KINDS}."
            ) from error
        yield record
