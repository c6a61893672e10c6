"""Parts that the charts' specifications have in common."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.publishing.charts.labels import LINE_HEIGHT, spread
from bench.publishing.charts.style import Style

Spec = dict[str, Any]
Point = dict[str, Any]

WIDTH = 520
"""Pixels between the ends of the x axis."""
FONT = 11
_SCHEMA = "https://vega.github.io/schema/vega-lite/v5.json"
_INK = "#333333"
_FONTS = "Liberation Sans, Arial, Helvetica, sans-serif"
_LINE = 100  # letters of a note that fit above a picture
_DOT = " · "
GUIDE_TEXT: Spec = {
    "type": "text",
    "baseline": "bottom",
    "dy": -2,
    "fontSize": FONT,
    "color": "#666666",
}
"""Words above a line that no entry has."""
LEADER = 16
"""Pixels from the end of a line to its label."""


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A specification under a file name.

    Attributes:
        name: file name without an ending; says what was held fixed.
        title: for a page that shows it.
    """

    name: str
    title: str
    spec: Spec


def frame(title: str, notes: Sequence[str], width: float, height: float) -> Spec:
    """All but data and layers. `width` and `height` are pixels without axes and titles.

    Notes are broken into lines that end within the picture.
    """
    lines = [line for note in notes for line in _lines(note)]
    return {
        "$schema": _SCHEMA,
        "title": {
            "text": title,
            "subtitle": lines,
            "anchor": "start",
            "fontSize": 14,
            "subtitleFontSize": FONT,
            "subtitleColor": "#555555",
            "offset": 12,
        },
        "width": width,
        "height": height,
        "background": "white",
        "padding": {"left": 12, "top": 12, "right": 24, "bottom": 12},
        "config": {
            "font": _FONTS,
            "view": {"stroke": None},
            "axis": {
                "gridColor": "#E8E8E8",
                "domainColor": "#888888",
                "tickColor": "#888888",
                "labelColor": _INK,
                "titleColor": _INK,
                "labelFontSize": FONT,
                "titleFontSize": 12,
                "titleFontWeight": "normal",
                "labelFlush": False,
            },
        },
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


def by_entry(values: dict[str, Any]) -> Spec:
    """A channel, such as colour, that takes its value from the entry."""
    return {
        "field": "entry",
        "type": "nominal",
        "scale": {"domain": list(values), "range": list(values.values())},
        "legend": None,
    }


def line_mark(styles: Mapping[str, Style], x: Spec, y: Spec) -> list[Spec]:
    """A line an entry, and its points in the entry's shape."""
    colour = by_entry({entry: style.colour for entry, style in styles.items()})
    line = {
        "mark": {"type": "line"},
        "encoding": {
            "x": x,
            "y": y,
            "color": colour,
            "strokeDash": by_entry({entry: style.dash for entry, style in styles.items()}),
            "strokeWidth": by_entry({entry: style.thickness for entry, style in styles.items()}),
        },
    }
    shape = by_entry({entry: style.shape for entry, style in styles.items()})
    dots = {
        "mark": {"type": "point", "filled": True, "size": 34, "opacity": 1},
        "encoding": {"x": x, "y": y, "color": colour, "shape": shape},
    }
    return [line, dots]


def interval_bar(place: Spec, axis: str, field: str) -> Spec:
    """A rule between the ends of a field's interval along an axis, of points that have one."""
    ends = {axis: place[axis] | {"field": f"{field}_low"}, f"{axis}2": {"field": f"{field}_high"}}
    return {
        "transform": [{"filter": f"isValid(datum.{field}_low)"}],
        "mark": {"type": "rule", "strokeWidth": 1.4, "opacity": 0.55},
        "encoding": place | ends,
    }


def seed_dots(place: Spec) -> Spec:
    """A small dot for every seed, where there are several."""
    return {
        "transform": [{"filter": "length(datum.seeds) > 1"}, {"flatten": ["seeds"]}],
        "mark": {"type": "point", "filled": True, "size": 15, "opacity": 0.55},
        "encoding": place | {"y": place["y"] | {"field": "seeds"}},
    }


def quantity_channel(field: str, title: str, scale: Spec) -> Spec:
    """A channel for numbers, on an axis with a title."""
    return {"field": field, "type": "quantitative", "scale": scale, "axis": {"title": title}}


def log_channel(field: str, title: str, low: float, high: float) -> Spec:
    """A logarithmic axis from one value to another, with round numbers at its ticks."""
    found = quantity_channel(field, title, {"type": "log", "domain": [low, high], "nice": False})
    found["axis"] |= {"values": log_ticks(low, high), "format": "~r"}
    return found


def size_channel(title: str, sizes: Sequence[int]) -> Spec:
    """The x axis of sizes, each a tick."""
    scale = {"type": "log", "base": 2, "domain": [sizes[0], sizes[-1]], "nice": False}
    found = quantity_channel("size", title, scale)
    found["axis"] |= {"values": sizes, "format": ",d"}
    return found


def band(x: Spec, y: Spec, colour: Spec) -> Spec:
    """Areas between the ends of intervals, under nothing and over the lines."""
    return {
        "mark": {"type": "area", "opacity": 0.18},
        "encoding": {"x": x, "y": y | {"field": "low"}, "y2": {"field": "high"}, "color": colour},
    }


def padded(values: Sequence[float], by: float = 1.25) -> tuple[float, float]:
    """Ends of a logarithmic axis that leaves some room beside the values."""
    return min(values) / by, max(values) * by


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten, with 2 and 5 between them where the range is short."""
    decades = math.log10(high / low)
    steps = (1, 2, 5) if decades < 3.2 else (1,)
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [float(f"{step}e{exponent}") for exponent in exponents for step in steps]
    return [tick for tick in ticks if low <= tick <= high]


def entry_names(x: str, y: str, *, align: str, text: str = "entry") -> list[Spec]:
    """A field as text at two others, on a white rim that keeps lines off the letters."""
    mark = {"type": "text", "baseline": "middle", "fontSize": FONT, "align": align}
    mark["dx"] = 3 if align == "left" else -3
    encoding = {
        "x": {"field": x, "type": "quantitative"},
        "y": {"field": y, "type": "quantitative"},
        "text": {"field": text},
    }
    rim = {"stroke": "white", "strokeWidth": 3, "strokeJoin": "round", "color": "white"}
    return [{"mark": mark | look, "encoding": encoding} for look in (rim, {"color": _INK})]


def spread_labels(
    points: Sequence[Point],
    right: float,
    height: float,
    place: Callable[[float], float],
    at: Callable[[float], float],
) -> list[Point]:
    """A label for the last point of each line, moved apart from the others.

    Args:
        points: of all lines.
        right: the size at which labels lie.
        height: of the picture in pixels.
        place: the height of a value in pixels from the top.
        at: what the y axis shows at such a height.
    """
    last = {point["entry"]: point for point in sorted(points, key=lambda p: p["size"])}
    ends = sorted(last.values(), key=lambda point: (-point["value"], point["entry"]))
    wanted = [place(point["value"]) for point in ends]
    places = spread(wanted, gap=LINE_HEIGHT, low=0, high=height)
    return [
        point | {"label_size": right, "label_value": at(place)}
        for point, place in zip(ends, places, strict=True)
    ]


def end_labels(
    labels: Sequence[Point], colour: Spec, text: str = "entry", value: str = "value"
) -> list[Spec]:
    """Names of lines beside their ends, each with a thin line that leads to it.

    `value` is the field that the y axis shows.
    """
    leader = {
        "data": {"values": list(labels)},
        "mark": {"type": "rule", "strokeWidth": 1, "opacity": 0.6},
        "encoding": {
            "x": {"field": "size", "type": "quantitative"},
            "y": {"field": value, "type": "quantitative"},
            "x2": {"field": "label_size"},
            "y2": {"field": "label_value"},
            "color": colour,
        },
    }
    names = entry_names("label_size", "label_value", align="left", text=text)
    return [leader, *({"data": {"values": list(labels)}} | layer for layer in names)]
