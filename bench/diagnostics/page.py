"""Tables, a chart and a page of what was found. No torch."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.app.files import write_whole
from bench.diagnostics.finding import CHANGE, changes
from bench.diagnostics.finding import sentences as finding_sentences
from bench.diagnostics.numbers import RANDOM, LeftOut, Line, Number
from bench.publish.charts.plain import Curves, chart_of
from bench.publish.charts.write import write_charts
from bench.publish.format import format_duration
from bench.publish.markdown import section_blocks
from bench.publish.tables import Section, Table

PAGE = "diagnostics.md"
_CHART = "entropy-against-norm"
_NO_SPREAD, _ROUNDING = 1e-4, 1e-9
"""Relative spread that is not printed, and what is left of a sum by rounding."""
_REGRET, _PLACE = "drop-in regret", "score in softmax's place"
_HOW_TO_READ = """\
Weights are the matrix by which a mechanism mixes values: its output for v = identity, exact for
what is linear in v. The two halves of PolaFormer count as heads. Numbers are means over heads, rows
and examples, in float64; ± is half of a 95 % interval over seeds, where there are two or more.

- **entropy**: of the shares |w| / sum |w| of a row, over ln N: 0 where one key has all, 1 where
  all have alike. **PSE**: the same in nats, as in the NaLaFormer paper, where no weight is
  negative.
- **rank correlation**: Spearman's rho of entropy and query norm over tokens. Norm and direction
  vary together there; the **sweep**, which gives all queries one norm and keeps their directions,
  is the clean number.
- **effective rank**: exp of the entropy of the singular values' shares. **distance**: mean |i - j|
  in tokens. **sink mass**: what the key that gets most gets, of all shares. **row sum**: 1 where
  the output is a mean. **condition**: sum |w| / |sum w|, the median over rows, of the sum that a
  normaliser divides by; 1 where nothing cancels. **at floor**: the share of key features within 1 %
  of the floor that is added to them, for mechanisms that have one.
- **error to softmax**: ||W - softmax|| / ||softmax|| on the same queries and keys; **KL** of W's
  shares to softmax's in nats, where no weight is negative.
- **gradient**: root mean square over the elements of q, k or v, for a unit-normal gradient of the
  output.
- **rounding error**: the largest error over the largest output, against float64 with inputs rounded
  alike. No number: it is not finite, or the mechanism does not claim the dtype.
- **drop-in regret**: what a trained softmax model's score loses when the mechanism takes the place
  of its attention, all other parameters kept; before and after some steps of fine-tuning at a tenth
  of the task's learning rate. Below 0 it gained. Softmax in its own place is the yardstick."""


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What a page says of where its numbers come from.

    Attributes:
        command: as it would be typed.
        settings: sentences on sizes and seeds.
        machine: where, with what and when.
        seconds: wall time.
    """

    command: str
    settings: tuple[str, ...]
    machine: str
    seconds: float


class _Lines:
    """Found numbers by name, and the order in which rows and places came."""

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


Column = tuple[str, str, str]
"""Its title, measure and place."""


def sections(lines: Sequence[Line]) -> tuple[Section, ...]:
    """All tables, those of random inputs first."""
    found = _Lines([*lines, *changes(lines)])
    made = [*_random(found)]
    for place in found.places():
        made += _own(found, place)
    made += [
        Section(title=f"{task}: in the place of a trained softmax", tables=(table,))
        for task in found.tasks()
        if (table := _table(found, "Drop-in regret", task, _regret_columns()))
    ]
    return tuple(made)


def _random(found: _Lines) -> Iterator[Section]:
    sweep = [(at.removeprefix("norm "), "entropy", at) for at in found.at(RANDOM, "entropy") if at]
    change = _columns(found, RANDOM, CHANGE, str)
    rho = _columns(found, RANDOM, "rank correlation", lambda at: at.removeprefix("norms "))
    error = _columns(found, RANDOM, "error to softmax", lambda at: at.removeprefix("norms "))
    kl = _columns(found, RANDOM, "KL to softmax", lambda at: f"KL {at.removeprefix('norms ')}")
    rounding = _columns(found, RANDOM, "rounding error", lambda at: at.removesuffix(" tokens"))
    tables = (
        _table(found, "Entropy / ln N by the norm of all queries, directions fixed", RANDOM, sweep),
        _table(found, "Change of entropy / ln N from one norm to another", RANDOM, change),
        _table(found, "Rank correlation of entropy and norm over tokens", RANDOM, rho),
        _table(found, "Weights of unit-normal queries and keys", RANDOM, _shape(found, RANDOM)),
        _table(found, "Error and KL to softmax, norms spread about", RANDOM, [*error, *kl]),
        _table(found, "Gradients", RANDOM, _GRADIENTS),
        _table(found, "Rounding error by dtype and tokens", RANDOM, rounding),
    )
    if kept := tuple(table for table in tables if table):
        yield Section(title="Random queries and keys", tables=kept)


def _own(found: _Lines, place: str) -> Iterator[Section]:
    norms = [
        ("query norm", "query norm", ""),
        ("entropy", "entropy", ""),
        ("rank correlation", "rank correlation", ""),
        *((f"change, {at}", m, at) for m in ("change of entropy",) for at in found.at(place, m)),
    ]
    tables = (
        _table(found, "Entropy and the norms of its own queries", place, norms),
        _table(found, "Weights", place, _shape(found, place)),
        _table(found, "Gradients", place, _GRADIENTS),
    )
    if kept := tuple(table for table in tables if table):
        yield Section(title=place, tables=kept)


_GRADIENTS: list[Column] = [(f"of {name}", "gradient", name) for name in "qkv"]


def _regret_columns() -> list[Column]:
    return [
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


def _table(found: _Lines, title: str, inputs: str, columns: Sequence[Column]) -> Table | None:
    rows = []
    for attention in found.rows(inputs):
        cells = [found.numbers.get((attention, inputs, measure, at)) for _, measure, at in columns]
        if any(cell is not None for cell in cells):
            rows.append((attention, *map(_written, cells)))
    header = ("attention", *(title for title, _, _ in columns))
    return Table(title=title, header=header, rows=tuple(rows), num_text=1) if rows else None


def _written(number: Number | None) -> str:
    """As ``0.763 ± 0.003``, half of the interval; a dash where there is none."""
    if number is None or number.mean is None:
        return "-"
    low, high = number.interval or (0.0, 0.0)
    if (half := (high - low) / 2) < _NO_SPREAD * abs(number.mean) or half < _ROUNDING:
        return _digits(number.mean)
    return f"{_digits(number.mean)} ± {_digits(half, 1)}"


def _digits(value: float, num_digits: int = 3) -> str:
    return "0" if abs(value) < _ROUNDING else f"{value:.{num_digits}g}"


def curves_of(lines: Sequence[Line], head_dim: int) -> Curves | None:
    """Entropy at each norm of the sweep, a line a mechanism."""
    found = _Lines(lines)
    norms = [at for at in found.at(RANDOM, "entropy") if at]
    drawn: dict[str, list[list[float]]] = {}
    for attention in found.rows(RANDOM):
        numbers = [(at, found.numbers.get((attention, RANDOM, "entropy", at))) for at in norms]
        points = [
            [float(at.removeprefix("norm ")), number.mean]
            for at, number in numbers
            if number is not None and number.mean is not None
        ]
        if points:
            drawn[attention] = points
    if not drawn:
        return None
    return Curves(
        title="Entropy of attention against the query norm, directions held fixed",
        x=f"norm of the queries (head_dim {head_dim})",
        y="entropy / ln N",
        lines=drawn,
    )


def write_page(
    lines: Sequence[Line], origin: Origin, curves: Curves | None, out: Path
) -> list[Path]:
    """The page, and the chart in a folder of its name; returns the files.

    Raises:
        ConfigError: a file cannot be written.
    """
    drawn = [] if curves is None else [chart_of(_CHART, curves)]
    folder = out / Path(PAGE).stem
    files, note = write_charts(drawn, folder)
    blocks = [
        "# What attention weights look like",
        f"{origin.machine}, {format_duration(origin.seconds)} of wall time, by",
        textwrap.indent(origin.command, "    "),
        "\n".join(origin.settings),
    ]
    blocks += [
        f"![{chart.title}]({folder.name}/{chart.name}.svg)"
        for chart in drawn
        if folder / f"{chart.name}.svg" in files
    ]
    blocks += ["\n".join(f"- {words}" for words in finding_sentences(lines))]
    blocks += [note] if note else []
    blocks += list(section_blocks(sections(lines), level=2))
    if left_out := left_out_words(lines):
        blocks += ["## Left out", "\n".join(f"- {words}" for words in left_out)]
    blocks += ["## How to read this", _HOW_TO_READ]
    return [write_whole(out / PAGE, "\n\n".join(blocks) + "\n"), *files]


def left_out_words(lines: Sequence[Line]) -> list[str]:
    """A line for each that has no numbers."""
    return [f"{line.attention}, {line.inputs}: {line.why}" for line in _Lines(lines).left_out]
