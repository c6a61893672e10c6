"""One Vega-Lite template for each picture, with placeholders that files, the page and W&B fill.

A string that begins with ``$`` is a placeholder for a number, a list or a word. A key whose
placeholder has no value is left out, and so is a layer without data. Data have names, and each row
of them has its own colour and shape, so an entry looks the same everywhere. The page fills
templates in ``charts.js``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Spec = dict[str, Any]
Point = dict[str, Any]

FONT = 11
_TEXT = {"type": "text", "fontSize": FONT, "baseline": "middle"}
_RIM = {"stroke": "$paper", "strokeWidth": 3, "strokeJoin": "round", "color": "$paper"}
"""Halo of a label, which keeps lines off its letters."""


def specifications() -> dict[str, Spec]:
    """The template of every picture, by name."""
    return {"lines": lines(), "scatter": scatter(), "scores": scores(), "roofline": roofline()}


def filled(part: Any, values: Mapping[str, Any], data: Mapping[str, Sequence[Point]]) -> Any:
    """Fill the placeholders of a part of a template, and drop layers that have no data.

    `values` are by the names of placeholders, `data` by the names of data; the caller puts them
    into the specification.
    """
    if isinstance(part, str):
        return values[part[1:]] if part.startswith("$") else part
    if isinstance(part, list):
        own = [one for one in part if not isinstance(one, dict) or _has_data(one, data)]
        return [filled(one, values, data) for one in own]
    if not isinstance(part, dict):
        return part
    known = {key: one for key, one in part.items() if not _is_open(one, values)}
    return {key: filled(one, values, data) for key, one in known.items()}


def _has_data(layer: Spec, data: Mapping[str, Sequence[Point]]) -> bool:
    return "data" not in layer or bool(data.get(layer["data"]["name"]))


def _is_open(part: Any, values: Mapping[str, Any]) -> bool:
    return isinstance(part, str) and part.startswith("$") and part[1:] not in values


def _frame(layers: list[Spec]) -> Spec:
    axis = {"gridColor": "$grid", "domainColor": "$faint", "tickColor": "$faint"}
    words = {"labelColor": "$soft", "titleColor": "$ink", "titleFontWeight": "normal"}
    sizes = {"labelFontSize": FONT, "titleFontSize": 12, "labelOverlap": "greedy"}
    return {
        "title": "$title",
        "width": "$width",
        "height": "$height",
        "padding": "$padding",
        "config": {
            "aria": False,  # text beside a picture describes it, and a table has its numbers
            "background": "$background",
            "font": "$font",
            "view": {"stroke": None},
            "axis": {**axis, **words, **sizes, "labelFlush": False},
            "axisX": {"labelSeparation": 6},
        },
        "layer": layers,
    }


def _layer(data: str, mark: Spec, encoding: Spec, only: str = "") -> Spec:
    """Marks for named data, or for those of them that pass a filter."""
    transform = {"transform": [{"filter": only}]} if only else {}
    return {"data": {"name": data}, **transform, "mark": mark, "encoding": encoding}


def _points(size: int, place: Spec, opacity: float = 1) -> Spec:
    mark = {"type": "point", "filled": True, "size": size}
    look = {**_colour(), "shape": as_given("shape"), "size": "$size", "opacity": {"value": opacity}}
    return _layer("points", mark, {**place, **look, **_tooltip()})


def _seeds(place: Spec) -> Spec:
    mark = {"type": "point", "filled": True, "size": 15, "opacity": 0.55}
    return _layer("seeds", mark, {**place, **_colour()})


def _channel(field: str, **more: Any) -> Spec:
    return {"field": field, "type": "quantitative", **more}


_SCALE = ("type", "domain", "base", "constant", "zero", "reverse", "padding")


def _axis(letter: str) -> Spec:
    """A quantitative axis, with placeholders for its scale, its title and its ticks.

    An axis of accuracies holds errors, so that 99 and 99.9 % differ.
    """
    scale = {name: f"${letter}_{name}" for name in _SCALE}
    axis = {"title": f"${letter}_title", "values": f"${letter}_ticks"}
    axis |= {"tickCount": f"${letter}_tick_count", "format": f"${letter}_format"}
    axis |= {"labelExpr": f"${letter}_labels"}
    return _channel(letter, scale=scale | {"nice": False}, axis=axis)


def _between(channel: Spec, letter: str, low: str = "low", high: str = "high") -> Spec:
    """From one end of an interval to the other, along an axis."""
    return {letter: channel | {"field": low}, f"{letter}2": {"field": high}}


def as_given(field: str, kind: str = "nominal") -> Spec:
    """A channel whose field holds what is drawn, such as a colour or a size, without a scale."""
    return {"field": field, "type": kind, "scale": None, "legend": None}


def _colour(channel: str = "color") -> Spec:
    return {channel: as_given("colour")}


def _detail(field: str) -> Spec:
    return {"detail": {"field": field, "type": "nominal"}}


def _tooltip() -> Spec:
    return {"tooltip": {"field": "tip", "type": "nominal", "title": " "}}


def _rule(encoding: Spec) -> Spec:
    """Lines across the picture, for the reference or the score of guessing."""
    look = {"strokeDash": as_given("dash"), **_tooltip()}
    return _layer("rules", {"type": "rule", "color": "$faint"}, {**encoding, **look})


def _guides(x: Spec, y: Spec) -> list[Spec]:
    """Dotted lines that belong to no entry, with words at their beginnings."""
    line = {"type": "line", "strokeDash": [1, 3], "strokeWidth": 1.5, "color": "$soft"}
    words = _TEXT | {"baseline": "bottom", "dy": -2, "color": "$soft"}
    words |= {"align": "$guide_align", "dx": "$guide_dx"}
    text = {"text": {"field": "words", "type": "nominal"}}
    return [
        _layer("guides", line, {"x": x, "y": y, **_detail("words")}),
        _layer("guide_words", words, {"x": x, "y": y, **text}),
    ]


def _bars(x: Spec, y: Spec) -> Spec:
    """Intervals along the y axis."""
    mark = {"type": "rule", "strokeWidth": 1.6, "opacity": 0.55}
    return _layer("bars", mark, {"x": x, **_between(y, "y"), **_colour()})


def _labels() -> list[Spec]:
    """Labels at the positions found for them, each with a thin line from its point."""
    ends = {"x2": {"field": "label_x"}, "y2": {"field": "label_y"}}
    leader = {"x": _channel("x"), "y": _channel("y"), **ends, **_colour()}
    name = {"text": {"field": "name", "type": "nominal"}}
    names = [
        _layer(
            "labels",
            _TEXT | {"align": align, "dx": dx} | look,
            {"x": _channel("label_x"), "y": _channel("label_y"), **name},
            only=f"datum.side == '{side}'",
        )
        for look in (_RIM, {"color": "$ink"})
        for side, align, dx in (("right", "left", 3), ("left", "right", -3))
    ]
    return [_layer("labels", {"type": "rule", "strokeWidth": 1, "opacity": 0.55}, leader), *names]


def lines() -> Spec:
    """One quantity against another: a line per entry, with intervals and crossovers."""
    x, y = _axis("x"), _axis("y")
    area = {"x": x, **_between(y, "y"), **_detail("name"), **_colour()}
    dash, thickness = as_given("dash"), as_given("thickness", "ordinal")
    look = {**_colour(), "strokeDash": dash, "strokeWidth": thickness, **_detail("run")}
    hollow = {"type": "point", "filled": True, "size": 12, "color": "$paper", "opacity": 1}
    diamond = {"type": "point", "shape": "diamond", "size": 90, "strokeWidth": 2, "fill": "$paper"}
    place, foot = {"x": _channel("x"), "y": _channel("y")}, _channel("foot")
    crossing = {**place, **_colour("stroke"), **_tooltip()}
    drop = {"type": "rule", "strokeDash": [1, 3], "strokeWidth": 1}
    length = _TEXT | {"dy": -8, "color": "$soft"}
    return _frame(
        [
            *_guides(x, y),
            _rule({"y": y}),
            _layer("bands", {"type": "area", "opacity": 0.16}, area),
            _bars(x, y),
            _layer(
                "corners", {"type": "line", "opacity": "$line_opacity"}, {"x": x, "y": y} | look
            ),
            _points(34, {"x": x, "y": y}),
            _layer("hollow", hollow, {"x": x, "y": y}),
            _seeds({"x": x, "y": y}),
            _layer("crossings", drop, {**place, "y2": {"field": "above"}, **_colour()}),
            _layer("crossings", diamond, crossing),
            _layer("crossings", length, {**place, "y": foot, "text": {"field": "label"}}),
            *_labels(),
        ]
    )


def scatter() -> Spec:
    """Accuracy against a cost, one point per entry; a line is the Pareto front, without ties."""
    x, y = _axis("x"), _axis("y")
    step = {"type": "line", "interpolate": "step-after", "strokeDash": [5, 3], "color": "$faint"}
    bar = {"type": "rule", "strokeWidth": 1.6, "opacity": 0.55}
    cost = {"y": y, **_between(x, "x", "x_low", "x_high"), **_colour()}
    return _frame(
        [
            *_guides(x, y),
            _layer("front", step, {"x": x, "y": y}),
            _layer("cost_bars", bar, cost),
            _bars(x, y),
            _seeds({"x": x, "y": y}),
            _points(80, {"x": x, "y": y}),
            *_labels(),
        ]
    )


def scores() -> Spec:
    """Scores of a task, one row per entry: a dot per seed, a tick for the mean, its interval."""
    row = {
        "field": "name",
        "type": "nominal",
        "sort": "$order",
        "axis": {"title": None, "labelLimit": 180},
        "scale": {"domain": "$order"},
    }
    x = _axis("x")
    bar = {"type": "rule", "strokeWidth": 5, "opacity": 0.3, "clip": True}
    interval = {"y": row, **_between(x, "x"), **_colour()}
    mean = {"y": row, "x": x, **_colour(), **_tooltip()}
    return _frame(
        [
            _rule({"x": x}),
            _layer("bars", bar, interval),
            _layer("means", {"type": "tick", "thickness": 3, "size": 15}, mean),
            _points(40, {"y": row, "x": x}, opacity=0.75),
        ]
    )


def roofline() -> Spec:
    """FLOPs per second against FLOPs per byte, below the machine's ceilings."""
    x, y = _axis("x"), _axis("y")
    line = {"type": "line", "color": "$faint", "strokeWidth": 2, "clip": True}
    words = _TEXT | {"align": "left", "dy": -7, "color": "$soft", "clip": True}
    name = {"x": _channel("x"), "y": _channel("y"), "text": {"field": "name"}}
    return _frame(
        [
            _layer("roofs", line, {"x": x, "y": y, **_detail("roof"), **_tooltip()}),
            _layer("roof_names", words, name),
            _points(80, {"x": x, "y": y}),
            *_labels(),
        ]
    )
