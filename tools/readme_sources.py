r"""Values of stored files, by the lines that tie README's numbers to them.

A line has its fields between bars. Four kinds::

    docs/speed.md | over softmax | nala | forward, 1,024 | low
    docs/results/spans.md | /Mean over (\d+) seeds/
    conf/sweep.yaml | defaults.2.attention | count
    conf/task/*.yaml | count

The first reads a table of Markdown or CSV. Its fields: the file; how the headings above the table
or its first header cell begin, joined by `` / ``, or ``-``; conditions on rows, ``column=value``,
``column!=value`` or any cell, joined by `` & ``, with ``*`` for anything; the column; how.
How, each word optional: ``low`` and ``high`` are the ends of a cell's interval; ``/a pattern/``
searches the cell; ``min``, ``max`` and ``count`` are over all rows found, else exactly one must be
found; ``minus`` turns the sign, ``x100`` makes per cent.

The second searches a file, one value for each group of the pattern; with ``count``, the number of
different matches. The third follows keys of YAML or JSON. The fourth counts files.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
MARKS = "marks"
"""The column of warnings, which a table has only if one of its rows has any."""

DECIMAL = r"\d+(?:,\d{3})*(?:\.\d+)?"
_NUMBER = re.compile(rf"[+-]?{DECIMAL}(?:e[+-]?\d+)?")
_COMMIT = re.compile(r"[0-9a-f]{7,40}")  # 2914e72 is one, and no number
_OVER_ROWS = {"min", "max", "count"}
_HOW = {"low", "high", "minus", "x100", *_OVER_ROWS}

Value = Decimal | str
"""A number, or the text of a date or a commit."""


class SourceError(Exception):
    """A tie that leads nowhere, or to several places."""


@dataclass(frozen=True)
class Table:
    """A table of a file, under its headings, the outermost first."""

    headings: tuple[str, ...]
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    num_text: int = 1

    def column(self, name: str) -> int:
        """The place of a column."""
        if name not in self.header:
            raise SourceError(f"no column {name!r}, but {', '.join(self.header)}")
        return self.header.index(name)

    def cell(self, row: Sequence[str], name: str) -> str:
        """A row's text in a column; nothing of marks where no row has any."""
        return "" if name == MARKS and MARKS not in self.header else row[self.column(name)]

    def rows_where(self, conditions: str) -> list[tuple[str, ...]]:
        """The rows that fulfil all conditions."""
        tests = [self._test(words) for words in conditions.split(" & ")]
        return [row for row in self.rows if all(test(row) for test in tests)]

    def _test(self, words: str) -> Callable[[tuple[str, ...]], bool]:
        name, sign, value = words.partition("=")
        if not sign:
            return lambda row: any(fnmatchcase(cell.strip("`"), words) for cell in row)
        column = self.column(name.removesuffix("!"))
        return lambda row: fnmatchcase(row[column].strip("`"), value) != name.endswith("!")


def lookup(tie: str) -> list[Value]:
    """The values that a line names.

    Raises:
        SourceError: there is no such value, or there are several.
    """
    path, *fields = tie.strip().split(" | ")
    try:
        if fields == ["count"]:
            return [Decimal(len(list(ROOT.glob(path))))]
        if fields[0].startswith("/"):
            return _searched(path, fields)
        if path.endswith((".json", ".yaml")):
            value = _at(path, fields[0])
            return [Decimal(len(value) if fields[1:] == ["count"] else str(value))]
        return [_in_table(path, *fields)]
    except (ArithmeticError, LookupError, OSError, TypeError, ValueError) as error:
        raise SourceError(f"{tie!r} leads nowhere: {type(error).__name__}: {error}") from error


def table_of(path: str, where: str, columns: Sequence[str]) -> Table:
    """The one table of a file under these headings with these columns.

    Raises:
        SourceError: there is none, or more than one.
    """
    parts = [] if where == "-" else where.split(" / ")
    found = [
        table
        for table in _tables(path)
        if set(columns) <= {*table.header, MARKS}
        and all(any(n.startswith(p) for n in (*table.headings, table.header[0])) for p in parts)
    ]
    if len(found) != 1:
        raise SourceError(f"{len(found)} tables of {path} under {where!r} have {columns}, not one")
    return found[0]


def markdown_tables(text: str) -> list[Table]:
    """All tables of a page."""
    headings: dict[int, str] = {}
    found = []
    for part in text.split("\n\n"):
        lines = part.strip().splitlines()
        if len(lines) > 1 and re.fullmatch(r"\|[\s:|-]+\|", lines[1]):
            rule, header, *rows = map(_cells, (lines[1], lines[0], *lines[2:]))
            num_text = sum(not cell.endswith(":") for cell in rule)
            found.append(Table(tuple(headings.values()), header, tuple(rows), num_text))
        elif heading := re.match(r"(#+) (.*)|\*\*(.*)\*\*$", part):
            level = len(heading[1]) if heading[1] else 9
            headings = {at: words for at, words in headings.items() if at < level}
            headings[level] = heading[2] or heading[3]
    return found


@cache
def text_of(path: str) -> str:
    """A file's text, read once."""
    return (ROOT / path).read_text()


def _in_table(path: str, where: str, conditions: str, column: str, how: str = "") -> Value:
    table = table_of(path, where, (column,))
    rows = table.rows_where(conditions)
    cells = [row[table.column(column)] for row in rows]
    if pattern := re.search(r"/(.*)/", how):
        cells = [str(value) for cell in cells for value in _groups(pattern[1], cell)]
        how = how.replace(pattern[0], "")
    words = set(how.split())
    if unknown := words - _HOW:
        raise ValueError(f"no words for how: {', '.join(sorted(unknown))}")
    if not cells or (len(cells) > 1 and not words & _OVER_ROWS):
        raise ValueError(f"{len(cells)} rows, not one")
    if "count" in words:
        return Decimal(len(rows))
    place = 1 if "low" in words else 2 if "high" in words else 0
    numbers = [_decimal(_NUMBER.findall(cell)[place]) for cell in cells]
    numbers = [-n if "minus" in words else n for n in numbers]
    value = max(numbers) if "max" in words else min(numbers)
    return value * 100 if "x100" in words else value


def _searched(path: str, fields: Sequence[str]) -> list[Value]:
    pattern = fields[0].strip("/")
    if fields[1:] == ["count"]:
        return [Decimal(len(set(re.findall(pattern, text_of(path)))))]
    return _groups(pattern, text_of(path))


def _groups(pattern: str, text: str) -> list[Value]:
    found = re.search(pattern, text)
    if found is None:
        raise ValueError(f"nothing is like {pattern!r}")
    return [
        _decimal(words) if _NUMBER.fullmatch(words) and not _COMMIT.fullmatch(words) else words
        for words in found.groups()
    ]


def _decimal(words: str) -> Decimal:
    return Decimal(words.replace(",", ""))


def _at(path: str, keys: str) -> Any:
    text = text_of(path)
    value = json.loads(text) if path.endswith(".json") else yaml.safe_load(text)
    for key in keys.split("."):
        value = value[int(key) if isinstance(value, list) else key]
    return value


@cache
def _tables(path: str) -> tuple[Table, ...]:
    if path.endswith(".csv"):
        header, *rows = csv.reader(text_of(path).splitlines())
        return (Table((), tuple(header), tuple(map(tuple, rows))),)
    return tuple(markdown_tables(text_of(path)))


def _cells(line: str) -> tuple[str, ...]:
    return tuple(cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip()[1:-1]))
