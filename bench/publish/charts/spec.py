"""What the charts' specifications have in common, part by part."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Spec = dict[str, Any]
Point = dict[str, Any]

WIDTH = 520
"""Pixels between the ends of the x axis."""
FONT = 11
_SCHEMA = "https://vega.github.io/schema/vega-lite/v5.json"
_INK = "#333333"


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
    """All but data and layers. `width` and `height` are pixels without axes and titles."""
    return {
        "$schema": _SCHEMA,
        "title": {
            "text": title,
            "subtitle": list(notes),
            "anchor": "start",
            "fontSize": 14,
            "subtitleFontSize": FONT,
            "subtitleColor": "#555555",
            "offset": 12,
        },
        "width": width,
        "height": height,
        "background": "white",
        "padding": 12,
        "config": {
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
            },
        },
    }


def by_entry(values: dict[str, Any]) -> Spec:
    """A channel, such as colour, that takes its value from the entry."""
    return {
        "field": "entry",
        "type": "nominal",
        "scale": {"domain": list(values), "range": list(values.values())},
        "legend": None,
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
    """Entries, or another field, as text at two fields, on a white rim that keeps lines off it."""
    mark = {"type": "text", "baseline": "middle", "fontSize": FONT, "align": align}
    mark["dx"] = 3 if align == "left" else -3
    encoding = {
        "x": {"field": x, "type": "quantitative"},
        "y": {"field": y, "type": "quantitative"},
        "text": {"field": text},
    }
    rim = {"stroke": "white", "strokeWidth": 3, "strokeJoin": "round", "color": "white"}
    return [{"mark": mark | look, "encoding": encoding} for look in (rim, {"color": _INK})]


def end_labels(labels: Sequence[Point], colour: Spec, text: str = "entry") -> list[Spec]:
    """Names of lines beside their ends, each with a thin line that leads to it."""
    leader = {
        "data": {"values": list(labels)},
        "mark": {"type": "rule", "strokeWidth": 1, "opacity": 0.6},
        "encoding": {
            "x": {"field": "size", "type": "quantitative"},
            "y": {"field": "value", "type": "quantitative"},
            "x2": {"field": "label_size"},
            "y2": {"field": "label_value"},
            "color": colour,
        },
    }
    names = entry_names("label_size", "label_value", align="left", text=text)
    return [leader, *({"data": {"values": list(labels)}} | layer for layer in names)]
