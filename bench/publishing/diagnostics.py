"""Findings of `bench.diagnose`, as tables and a chart, for its own page and for reports."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from bench.core.numbers import (
    CHANGE,
    FILE,
    RANDOM,
    Found,
    LeftOut,
    Line,
    Number,
    changes,
    read_lines,
)
from bench.publishing.charts.plain import Curves, chart_of
from bench.publishing.document import Chart, Table, text_table
from bench.publishing.tables import Section

_FILES = (FILE, f"diagnostics/{FILE}")
"""Paths below a store: written by ``diagnose out=STORE``, or by default."""
_NO_SPREAD, _ROUNDING = 1e-4, 1e-9
"""Relative spread below which none is printed, and size below which a number counts as 0."""
_REGRET, _PLACE = "drop-in regret", "score in softmax's place"


Column = tuple[str, str, str]
"""Title of a column, and the measure and `at` of the numbers that it shows."""


def read_diagnostics(out: Path) -> Found:
    """Read the findings of `bench.diagnose` in the folder of a store.

    Raises:
        ConfigError: a file cannot be read.
    """
    found = (out / name for name in _FILES if os.path.lexists(out / name))
    return read_lines(next(found, out / FILE))


def report_sections(found: Found) -> tuple[Section, ...]:
    """The most informative numbers of a file, for a report; empty if it has none."""
    lines = _Lines([*found.lines, *changes(found.lines)])
    tables = _table(lines, "Random queries and keys", RANDOM, _informative_columns(lines))
    for place in lines.places():
        title = f"Own queries and keys of trained models: {place}"
        tables += _table(lines, title, place, _norms(lines, place))
    for task in lines.tasks():
        tables += _table(lines, f"In the place of a trained softmax: {task}", task, _REGRETS)
    if not tables:
        return ()
    notes = [
        "From diagnostics.jsonl, which attnbench diagnose wrote; diagnostics.md beside it "
        "has all numbers and says how to read them. Rows go by their labels: hyperparameters may "
        "differ from those of other tables."
    ]
    if found.origin is not None:
        notes += [f"{found.origin.command} on {found.origin.machine}.", *found.origin.settings]
    return (
        Section(
            title="Attention weights",
            tables=tables,
            notes=tuple(notes),
            fine_print=tuple(left_out_words(found.lines)),
        ),
    )


def _informative_columns(found: _Lines) -> list[Column]:
    return [
        *([("entropy / ln N", "entropy", "")] if "" in found.at(RANDOM, "entropy") else []),
        *_columns(found, RANDOM, CHANGE, lambda at: f"change, norm {at}"),
        *_shape(found, RANDOM),
    ]


class _Lines:
    """Numbers by row, inputs, measure and `at`; rows are in the order of the file."""

    def __init__(self, lines: Sequence[Line]) -> None:
        self.numbers = {
            (line.attention, line.inputs, line.measure, line.at): line
            for line in lines
            if isinstance(line, Number)
        }
        self.left_out = [line for line in lines if isinstance(line, LeftOut)]

    def rows(self, inputs: str) -> list[str]:
        return list(dict.fromkeys(n.attention for n in self._of(inputs)))

    def places(self) -> list[str]:
        found = dict.fromkeys(n.inputs for n in self.numbers.values() if n.measure != _REGRET)
        return sorted(p for p in found if ", layer " in p)

    def at(self, inputs: str, measure: str) -> list[str]:
        return list(dict.fromkeys(n.at for n in self._of(inputs) if n.measure == measure))

    def tasks(self) -> list[str]:
        return list(dict.fromkeys(k[1] for k in self.numbers if k[2] == _REGRET))

    def has(self, inputs: str, measure: str) -> bool:
        return any(n.mean is not None for n in self._of(inputs) if n.measure == measure)

    def _of(self, inputs: str) -> Iterator[Number]:
        return (n for n in self.numbers.values() if n.inputs == inputs)


def sections(lines: Sequence[Line]) -> tuple[Section, ...]:
    """Every table, those of random inputs first."""
    found = _Lines([*lines, *changes(lines)])
    made = {"Random queries and keys": _random(found)}
    for place in found.places():
        made[place] = (
            *_table(found, "Entropy and the norms of its own queries", place, _norms(found, place)),
            *_table(found, "Weights", place, _shape(found, place)),
            *_table(found, "Gradients", place, _GRADIENTS),
        )
    for task in found.tasks():
        title = f"{task}: in the place of a trained softmax"
        made[title] = _table(found, "Drop-in regret", task, _REGRETS)
    return tuple(Section(title=title, tables=tables) for title, tables in made.items() if tables)


def _random(found: _Lines) -> tuple[Table, ...]:
    sweep = [(at.removeprefix("norm "), "entropy", at) for at in found.at(RANDOM, "entropy") if at]
    change = _columns(found, RANDOM, CHANGE, str)
    rho = _columns(found, RANDOM, "rank correlation", lambda at: at.removeprefix("norms "))
    error = _columns(found, RANDOM, "error to softmax", lambda at: at.removeprefix("norms "))
    kl = _columns(found, RANDOM, "KL to softmax", lambda at: f"KL {at.removeprefix('norms ')}")
    rounding = _columns(found, RANDOM, "rounding error", lambda at: at.removesuffix(" tokens"))
    columns = {
        "Entropy / ln N by the norm of all queries, directions fixed": sweep,
        "Change of entropy / ln N from one norm to another": change,
        "Rank correlation of entropy and norm over tokens": rho,
        "Weights of unit-normal queries and keys": _shape(found, RANDOM),
        "Error and KL to softmax, norms spread about": [*error, *kl],
        "Gradients": _GRADIENTS,
        "Rounding error by dtype and tokens": rounding,
    }
    return tuple(
        table for title, own in columns.items() for table in _table(found, title, RANDOM, own)
    )


def _norms(found: _Lines, place: str) -> list[Column]:
    return [
        ("query norm", "query norm", ""),
        ("entropy", "entropy", ""),
        ("rank correlation", "rank correlation", ""),
        *_columns(found, place, CHANGE, lambda at: f"change, {at}"),
    ]


_GRADIENTS: list[Column] = [(f"of {name}", "gradient", name) for name in "qkv"]


_REGRETS: list[Column] = [
    (f"{words} {when}", measure, when)
    for when in ("before", "after")
    for words, measure in (("score", _PLACE), ("regret", _REGRET))
]


def _shape(found: _Lines, inputs: str) -> list[Column]:
    names = {
        **{"PSE": "PSE", "effective rank": "effective rank", "share negative": "negative"},
        **{"row sum": "row sum", "mean distance": "distance", "sink mass": "sink mass"},
        **{"condition": "condition", "features at floor": "at floor"},
    }
    return [(title, measure, "") for measure, title in names.items() if found.has(inputs, measure)]


def _columns(found: _Lines, inputs: str, measure: str, title: Callable[[str], str]) -> list[Column]:
    return [(title(at), measure, at) for at in found.at(inputs, measure)]


def _table(found: _Lines, title: str, inputs: str, columns: Sequence[Column]) -> tuple[Table, ...]:
    """One table, or none if no row was measured."""
    rows = []
    for attention in found.rows(inputs):
        cells = [found.numbers.get((attention, inputs, measure, at)) for _, measure, at in columns]
        if any(cell is not None for cell in cells):
            rows.append((attention, *map(_written, cells)))
    header = ("attention", *(title for title, _, _ in columns))
    return (text_table(title=title, header=header, rows=tuple(rows), num_words=1),) if rows else ()


def _written(number: Number | None) -> str:
    """Mean ± half of its interval, e.g. ``0.763 ± 0.003``; a dash without a number."""
    if number is None or number.mean is None:
        return "-"
    low, high = number.interval or (0.0, 0.0)
    if (half := (high - low) / 2) < _NO_SPREAD * abs(number.mean) or half < _ROUNDING:
        return _digits(number.mean)
    return f"{_digits(number.mean)} ± {_digits(half, 1)}"


def _digits(value: float, num_digits: int = 3) -> str:
    return "0" if abs(value) < _ROUNDING else f"{value:.{num_digits}g}"


def entropy_chart(lines: Sequence[Line]) -> Chart | None:
    """Chart of entropy against the query norm, one line per mechanism; None without a sweep."""
    drawn = entropy_lines(lines)
    if not drawn:
        return None
    curves = Curves(
        title="Entropy of attention against the query norm, directions held fixed",
        x="norm of the queries",
        y="entropy / ln N",
        lines=drawn,
    )
    return chart_of("entropy-against-norm", curves)


def entropy_lines(lines: Sequence[Line]) -> dict[str, list[list[float]]]:
    """Pairs of query norm and entropy of each row, by ascending norm."""
    drawn: dict[str, list[list[float]]] = {}
    for line in lines:
        if isinstance(line, Number) and line.mean is not None and line.norm is not None:
            drawn.setdefault(line.attention, []).append([line.norm, line.mean])
    return {attention: sorted(points) for attention, points in drawn.items()}


def left_out_words(lines: Sequence[Line]) -> list[str]:
    """A line with the reason for each row that has no numbers."""
    return [f"{line.attention}, {line.inputs}: {line.why}" for line in _Lines(lines).left_out]
