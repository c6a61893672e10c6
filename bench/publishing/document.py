"""Tables of values, documents of blocks, and their renderers: Markdown, CSV, LaTeX."""

from __future__ import annotations

import csv
import io
import math
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from bench.core.cli.errors import ConfigError
from bench.core.cli.files import write_whole


class Estimate(NamedTuple):
    """A value with its interval, in the column's base unit; without ends it has no interval."""

    value: float
    low: float | None = None
    high: float | None = None


Value = str | int | float | bool | Estimate | None
"""None and NaN are an empty cell."""
Row = Mapping[str, Value]


@dataclass(frozen=True)
class Column:
    """How one key of the rows is shown. CSV takes the value as it is, in base units.

    Attributes:
        key: key of the value in a row, and header of the CSV.
        title: heading without unit and direction; if empty, the key.
        unit: shown after the title.
        factor: number of base units in one `unit`.
        digits: format specification of a number, e.g. ``.3f``, or a function.
        better: which direction is better, shown as an arrow after the unit.
        align: words to the left, numbers to the right.
        within: bounds of the quantity; the shown interval is clipped to them.
        most_letters: number of characters beyond which a terminal wraps a cell; 0 for no limit.
    """

    key: str
    title: str = ""
    unit: str = ""
    factor: float = 1.0
    digits: str | Callable[[float], str] = ".3f"
    better: Literal["", "higher", "lower"] = ""
    align: Literal["left", "right"] = "right"
    within: tuple[float, float] = (-math.inf, math.inf)
    most_letters: int = 0

    @property
    def header(self) -> str:
        """Title with unit and direction, e.g. ``latency ms ↓``."""
        return " ".join(w for w in (self.title or self.key, self.unit, _ARROWS[self.better]) if w)

    def write(self, value: Value) -> str:
        """Text of a cell, e.g. ``0.250 (0.000 to 1.000)``; empty for None and NaN."""
        if value is None or isinstance(value, str):
            return value or ""
        number, low, high = value if isinstance(value, Estimate) else Estimate(value)
        if math.isnan(number):
            return ""
        if low is None or high is None:
            return self._number(number)
        ends = (max(low, self.within[0]), min(high, self.within[1]))
        return f"{self._number(number)} ({' to '.join(map(self._number, ends))})"

    def _number(self, value: float) -> str:
        scaled = value / self.factor
        return self.digits(scaled) if callable(self.digits) else f"{scaled:{self.digits}}"


_ARROWS = {"": "", "higher": "↑", "lower": "↓"}


def words(key: str, title: str = "") -> Column:
    """A left-aligned column of words."""
    return Column(key, title, align="left")


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of values under typed columns; a key that a row lacks is an empty cell.

    Attributes:
        leading: indices of the rows that share the first rank; LaTeX prints them in bold.
    """

    columns: Sequence[Column]
    rows: Sequence[Row]
    title: str = ""
    leading: frozenset[int] = frozenset()

    @property
    def header(self) -> tuple[str, ...]:
        """Titles of the columns, with unit and direction."""
        return tuple(column.header for column in self.columns)

    @property
    def num_words(self) -> int:
        """Number of columns of words, which come first."""
        return sum(column.align == "left" for column in self.columns)

    def texts(self) -> tuple[tuple[str, ...], ...]:
        """The cells as text, without the header."""
        return tuple(tuple(c.write(row.get(c.key)) for c in self.columns) for row in self.rows)


def text_table(
    title: str,
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    num_words: int,
    leading: frozenset[int] = frozenset(),
) -> Table:
    """A table of cells that are already text.

    The first `num_words` columns hold words, the others numbers.
    """
    keys = [str(i) for i in range(len(header))]
    return Table(
        title=title,
        columns=tuple(
            Column(key, words, align="left" if i < num_words else "right")
            for i, (key, words) in enumerate(zip(keys, header, strict=True))
        ),
        rows=tuple(dict(zip(keys, row, strict=True)) for row in rows),
        leading=leading,
    )


# --- blocks -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Heading:
    """A heading within the document."""

    words: str
    level: int = 2


@dataclass(frozen=True)
class Text:
    """Lines of untrusted text: markup in them is escaped.

    Attributes:
        lines: shown everywhere.
        notes: lines that the terminal has shown already; only a page repeats them.
    """

    lines: Sequence[str]
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Bullets:
    """Like `Text`, with each line as an item of a list."""

    lines: Sequence[str]


@dataclass(frozen=True)
class Prose:
    """Markdown of our own that explains the page; a terminal does not show it."""

    markdown: str


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A picture, which a page shows once it is drawn: see `bench.publishing.charts.write`.

    Attributes:
        name: file name without suffix; it includes what was held fixed.
        title: what it shows.
        spec: in Vega-Lite.
        path: of the drawn file, relative to the page's folder; empty until then.
    """

    name: str
    title: str
    spec: Mapping[str, Any]
    path: str = ""


@dataclass(frozen=True)
class Command:
    """A command line as typed, or several, one a line."""

    words: str


Block = Heading | Text | Bullets | Prose | Table | Chart | Command


@dataclass(frozen=True)
class Document:
    """A title, and blocks from top to bottom."""

    title: str
    blocks: Sequence[Block]


# --- renderers ----------------------------------------------------------------------------------


def markdown(document: Document) -> str:
    """The page as Markdown, ending with a newline."""
    blocks = (text for block in document.blocks for text in _markdown(block))
    return "\n\n".join([f"# {escape(document.title)}", *blocks]) + "\n"


def _markdown(block: Block) -> Iterator[str]:
    match block:
        case Heading(title, level):
            yield f"{'#' * level} {escape(title)}"
        case Text(lines, notes) if lines or notes:
            yield "  \n".join(map(escape, (*lines, *notes)))
        case Bullets(lines) if lines:
            yield "\n".join(f"- {escape(line)}" for line in lines)
        case Prose(text):
            yield text
        case Chart() if block.path:
            yield f"![{escape(block.title)}]({block.path})"
        case Command(text):
            yield textwrap.indent(text, "    ")
        case Table():
            if block.title:
                yield f"**{escape(block.title)}**"
            yield pipe_table(block)


def pipe_table(table: Table) -> str:
    """A table in Markdown without its title, padded so that it also reads well as plain text."""
    header, *rows = ([escape(cell) for cell in row] for row in (table.header, *table.texts()))
    align = "".join(column.align[0] for column in table.columns)
    return markdown_table(header, rows, align, is_padded=True)


def markdown_table(
    header: Sequence[str], rows: Iterable[Sequence[str]], align: str = "", is_padded: bool = False
) -> str:
    """A table whose cells are Markdown already; bars within them are escaped.

    `align` has ``l`` or ``r`` for each column, empty if all are words. With `is_padded`, the cells
    of a column are equally wide.
    """
    sides = ["<" if side == "l" else ">" for side in align or "l" * len(header)]
    lines = [[_BAR.sub(r"\\|", cell) for cell in row] for row in (header, *rows)]
    widths = [is_padded * max(3, *map(len, column)) for column in zip(*lines, strict=True)]
    columns = [*zip(sides, widths, strict=True)]

    def line(cells: Sequence[str]) -> str:
        padded = (f"{cell:{side}{w}}" for cell, (side, w) in zip(cells, columns, strict=True))
        return f"| {' | '.join(padded)} |"

    rule = ["---".ljust(w, "-") if side == "<" else "--:".rjust(w, "-") for side, w in columns]
    ruled = f"| {' | '.join(rule)} |" if is_padded else f"|{'|'.join(rule)}|"
    return "\n".join([line(lines[0]), ruled, *map(line, lines[1:])])


_BAR = re.compile(r"(?<!\\)\|")
_MARKUP = re.compile(
    r"""[\\`*<|]                    # code, emphasis, HTML, the border of a cell
      | (?<![^\W_])_ | _(?![^\W_])  # emphasis too, but not within softmax_explicit
      | \](?=[(\[])                # a link, but not the interval [1.79, 1.88]
      | &(?=\#?\w+;)              # a letter by its name
    """,
    re.VERBOSE,
)


def escape(text: str) -> str:
    """Escape text so that Markdown shows it literally, on one line and in one cell."""
    return _MARKUP.sub(r"\\\g<0>", " ".join(text.split()))


def csv_text(table: Table) -> str:
    """The table as CSV: values in base units under their keys, without intervals."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(column.key for column in table.columns)
    for row in table.rows:
        values = (row.get(column.key) for column in table.columns)
        writer.writerow(csv_cell(v.value if isinstance(v, Estimate) else v) for v in values)
    return text.getvalue()


def csv_cell(value: object) -> object:
    """A value for a CSV file, where text that a spreadsheet would evaluate gets an apostrophe.

    Names and reasons may come from a plugin.
    """
    starts = ("=", "+", "-", "@", "\t", "\r")
    return f"'{value}" if isinstance(value, str) and value.startswith(starts) else value


def latex(document: Document) -> str:
    """The document's tables for LaTeX with booktabs; rows that share the first rank are bold.

    Headings become comments; texts, pictures and commands are left out.
    """
    lines = [f"% {_on_one_line(document.title)}", r"% needs \usepackage{booktabs}"]
    for block in document.blocks:
        if isinstance(block, Heading):
            lines += ["", f"% {_on_one_line(block.words)}"]
        elif isinstance(block, Table):
            lines += ["", *_latex_table(block)]
    return "\n".join(lines) + "\n"


def _latex_table(table: Table) -> Iterator[str]:
    yield r"\begin{table}"
    yield r"\centering"
    if table.title:
        yield rf"\caption{{{_tex(table.title)}}}"
    yield rf"\begin{{tabular}}{{{''.join(column.align[0] for column in table.columns)}}}"
    yield r"\toprule"
    yield f"{' & '.join(map(_tex, table.header))} \\\\"
    yield r"\midrule"
    for i, row in enumerate(table.texts()):
        cells = [_tex(cell) for cell in row]
        if i in table.leading:
            cells = [cell and rf"\textbf{{{cell}}}" for cell in cells]
        yield f"{' & '.join(cells)} \\\\"
    yield r"\bottomrule"
    yield r"\end{tabular}"
    yield r"\end{table}"


_TEX = {
    **{letter: f"\\{letter}" for letter in "#$%&_{}"},
    "\\": r"\textbackslash{}",
    "~": r"$\sim$",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "·": r"$\cdot$",
    "²": r"$^2$",
    "µ": r"$\mu$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "→": r"$\rightarrow$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
}


def _tex(text: str) -> str:
    return "".join(_TEX.get(letter, letter) for letter in _on_one_line(text))


def _on_one_line(text: str) -> str:
    return " ".join(text.split())


def write(document: Document, path: Path) -> Path:
    """Write a file in the format of its suffix: .md, .tex, or .csv with the first table alone.

    Raises:
        ConfigError: the file cannot be written, or has another suffix.
    """
    if path.suffix == ".md":
        return write_whole(path, markdown(document))
    if path.suffix == ".csv":
        table = next(block for block in document.blocks if isinstance(block, Table))
        return write_whole(path, csv_text(table))
    if path.suffix == ".tex":
        return write_whole(path, latex(document))
    raise ConfigError(f"{path} ends in none of .md, .csv, .tex. Choose one of these.")
