"""Pictures for files: templates of `pictures`, filled with axes, data and colours for print."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.publishing.charts.pictures import FONT, Point, Spec, filled
from bench.publishing.charts.style import Style

WIDTH = 520
"""Pixels between the ends of the x axis."""
_SCHEMA = "https://vega.github.io/schema/vega-lite/v5.json"
_PAPER: dict[str, object] = {
    "ink": "#333333",
    "soft": "#555555",
    "faint": "#888888",
    "grid": "#E8E8E8",
    "paper": "white",
    "background": "white",
    "guide_align": "left",
    "guide_dx": 6,
    "font": "Liberation Sans, Arial, Helvetica, sans-serif",
    "padding": {"left": 12, "top": 12, "right": 24, "bottom": 12},
}
_LINE = 100  # characters of a note that fit above a picture
_DOT = " · "


@dataclass(frozen=True, kw_only=True)
class Axis:
    """An axis: values and their positions in pixels.

    Attributes:
        kind: its scale: ``linear``, ``log``, or ``symlog``, which is linear below `constant`.
        ends: values at its left or lower, and at its right or upper end.
        pixels: positions of the ends; from the top for a y axis.
        ticks: values of its ticks; None leaves them to Vega.
        format: d3 format of its numbers.
        labels: Vega expression for the label of a tick, if it is not just the number.
        base: base of its logarithms, for the ticks that Vega chooses.
    """

    kind: str
    ends: tuple[float, float]
    pixels: tuple[float, float]
    title: str = ""
    ticks: Sequence[float] | None = None
    format: str = ",~r"
    labels: str = ""
    base: int = 10
    constant: float = 1.0

    def pixel(self, value: float) -> float:
        """Position of a value."""
        low, high = map(self._stretched, self.ends)
        start, end = self.pixels
        return start + (self._stretched(value) - low) / (high - low or 1.0) * (end - start)

    def value(self, pixel: float) -> float:
        """Value at a position; the inverse of `pixel`."""
        low, high = map(self._stretched, self.ends)
        start, end = self.pixels
        stretched = low + (pixel - start) / (end - start) * (high - low)
        if self.kind == "log":
            return math.exp(stretched)
        if self.kind == "symlog":
            return math.copysign(self.constant * math.expm1(abs(stretched)), stretched)
        return stretched

    def clipped(self, value: float) -> float:
        """A value, or the end of the axis that it lies beyond."""
        return min(max(value, min(self.ends)), max(self.ends))

    def holes(self, letter: str) -> dict[str, object]:
        """Values of a template's placeholders for this axis; `letter` is ``x`` or ``y``."""
        found: dict[str, object] = {
            "type": self.kind,
            "domain": list(self.ends),
            "title": self.title,
            "format": self.format,
        }
        if self.kind == "log" and self.base != 10:
            found["base"] = self.base
        elif self.kind == "symlog":
            found["constant"] = self.constant
        elif self.kind == "linear":
            found["zero"] = False
        if self.ticks is not None:
            # Without a count, Vega drops every second tick if there are more than it would draw.
            found |= {"ticks": list(self.ticks), "tick_count": len(self.ticks)}
        if self.labels:
            found["labels"] = self.labels
        return {f"{letter}_{name}": value for name, value in found.items()}

    def _stretched(self, value: float) -> float:
        if self.kind == "log":
            return math.log(value)
        if self.kind == "symlog":
            return math.copysign(math.log1p(abs(value) / self.constant), value)
        return value


def picture(
    template: Spec,
    x: Axis,
    y: Axis,
    data: Mapping[str, Sequence[Point]],
    title: str = "",
    notes: Sequence[str] = (),
    **values: object,
) -> Spec:
    """A specification with its data: a template of `pictures`, filled.

    `data` are rows by the template's names of data, `values` those of other placeholders. Notes are
    wrapped to the width of the picture.
    """
    shown = {name: list(rows) for name, rows in data.items() if rows}
    holes: dict[str, object] = {
        **_PAPER,
        "width": abs(x.pixels[1] - x.pixels[0]),
        "height": abs(y.pixels[1] - y.pixels[0]),
        "title": _title(title, notes),
    }
    spec: Spec = filled(template, holes | x.holes("x") | y.holes("y") | values, shown)
    return {"$schema": _SCHEMA, **spec, "datasets": shown}


def _title(title: str, notes: Sequence[str]) -> Spec:
    return {
        "text": title,
        "subtitle": [line for note in notes for line in _lines(note)],
        "anchor": "start",
        "fontSize": 14,
        "subtitleFontSize": FONT,
        "subtitleColor": _PAPER["soft"],
        "offset": 12,
    }


def look(style: Style) -> Point:
    """Fields of a row that say how its entry is drawn."""
    return {
        "colour": style.colour,
        "shape": style.shape,
        "dash": style.dash,
        "thickness": style.thickness,
    }


def _lines(note: str) -> list[str]:
    """A note, broken at its dots where it has any, else between words."""
    lines: list[str] = []
    for part in note.split(_DOT):
        if lines and len(lines[-1] + _DOT + part) <= _LINE:
            lines[-1] += _DOT + part
        else:
            lines += textwrap.wrap(part, _LINE)
    return lines


def size_axis(title: str, sizes: Sequence[int]) -> Axis:
    """A logarithmic x axis with a tick at each size."""
    ends = (sizes[0], sizes[-1])
    return Axis(
        kind="log", base=2, ends=ends, pixels=(0, WIDTH), title=title, ticks=sizes, format=",d"
    )


def log_axis(title: str, values: Sequence[float], pixels: tuple[float, float], by: float) -> Axis:
    """A logarithmic axis with round ticks, and a margin around its values.

    Values are above 0; `by` is the factor of the margin at either end.
    """
    low, high = min(values) / by, max(values) * by
    return Axis(kind="log", ends=(low, high), pixels=pixels, title=title, ticks=_ticks(low, high))


def linear_axis(
    title: str, values: Sequence[float], pixels: tuple[float, float], by: float
) -> Axis:
    """A linear axis with a margin at either end, a share `by` of the range of its values."""
    low, high = min(values), max(values)
    slack = by * ((high - low) or 1.0)
    return Axis(kind="linear", ends=(low - slack, high + slack), pixels=pixels, title=title)


def _ticks(low: float, high: float) -> list[float]:
    """Powers of ten, with 2 and 5 between them where the range is short."""
    decades = math.log10(high / low)
    steps = (1, 2, 5) if decades < 3.2 else (1,)
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [float(f"{step}e{exponent}") for exponent in exponents for step in steps]
    return [tick for tick in ticks if low <= tick <= high]


def side_by_side(rows: Sequence[Sequence[Spec]], title: str, notes: Sequence[str]) -> Spec:
    """One specification with pictures of `picture` as panels, row by row, each with its title."""
    first = rows[0][0]
    return {
        "$schema": _SCHEMA,
        "title": _title(title, notes),
        "padding": first["padding"],
        "config": first["config"],
        "vconcat": [{"hconcat": [_panel(spec) for spec in row]} for row in rows],
    }


def _panel(spec: Spec) -> Spec:
    """A picture as a panel, with its data in each layer: names of data are shared by all panels."""
    layers = [
        layer | {"data": {"values": spec["datasets"][layer["data"]["name"]]}}
        for layer in spec["layer"]
    ]
    title = {"text": spec["title"]["text"], "anchor": "start", "fontSize": 12}
    return {"title": title, "width": spec["width"], "height": spec["height"], "layer": layers}
