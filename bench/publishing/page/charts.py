"""The charts as Vega-Lite specifications, written here and filled by the page.

A string that begins with ``$`` is a hole: the page puts a number, a list or a word there, from the
rows that its filters leave. Data come under names. Colours and dashes are those of the static
pictures and come with the data, so an entry looks the same everywhere.
"""

from __future__ import annotations

from typing import Any

Spec = dict[str, Any]

_SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
_TEXT = {"type": "text", "fontSize": 11, "baseline": "middle"}
_CHANCE = {"type": "rule", "strokeDash": [4, 4], "color": "$faint"}
_HAS_INTERVAL = "isValid(datum.low)"


def specifications() -> dict[str, Spec]:
    """Every chart by name."""
    return {
        "lines": _lines(),
        "scatter": _scatter(),
        "scores": _scores(),
        "curves": _curves(),
        "roofline": _roofline(),
    }


def _frame(layers: list[Spec]) -> Spec:
    return {"$schema": _SCHEMA, "width": "$width", "height": "$height", "layer": layers}


def _layer(data: str, mark: Spec, encoding: Spec, only: str = "") -> Spec:
    """Marks for named data, or for those of them that pass a filter."""
    transform = {"transform": [{"filter": only}]} if only else {}
    return {"data": {"name": data}, **transform, "mark": mark, "encoding": encoding}


def _points(size: int, place: Spec, opacity: float = 1) -> Spec:
    mark = {"type": "point", "filled": True, "size": size}
    encoding = {**place, **_colour(), **_tooltip(), "opacity": {"value": opacity}}
    return _layer("points", mark, encoding)


def _channel(field: str, **more: Any) -> Spec:
    return {"field": field, "type": "quantitative", **more}


def _axis(letter: str, field: str, scale: str = "log") -> Spec:
    """A quantitative axis whose title, domain and ticks the page knows."""
    axis = {
        "title": f"${letter}_title",
        "values": f"${letter}_ticks",
        "format": f"${letter}_format",
    }
    kind = {"type": scale, "domain": f"${letter}_domain", "nice": False}
    if scale == "linear":
        kind["zero"] = False
    return _channel(field, scale=kind, axis=axis)


def _score_axis(letter: str, field: str) -> Spec:
    """An axis of scores: of shares it shows what is missing to all, so that 99 and 99.9 differ."""
    axis = _axis(letter, field)
    axis["scale"] |= {"type": f"${letter}_scale", "constant": 1}
    axis["axis"] |= {"labelExpr": f"${letter}_labels"}
    return axis


def _between(channel: Spec, letter: str) -> Spec:
    """From one end of an interval to the other, along an axis."""
    return {letter: channel | {"field": "low"}, f"{letter}2": {"field": "high"}}


def _as_given(field: str, kind: str = "nominal") -> Spec:
    return {"field": field, "type": kind, "scale": None, "legend": None}


def _colour(channel: str = "color") -> Spec:
    return {channel: _as_given("colour")}


def _detail(field: str) -> Spec:
    return {"detail": {"field": field, "type": "nominal"}}


def _look() -> Spec:
    dash, thickness = _as_given("dash"), _as_given("thickness", "ordinal")
    return {**_colour(), "strokeDash": dash, "strokeWidth": thickness, **_detail("name")}


def _tooltip() -> Spec:
    return {"tooltip": {"field": "tip", "type": "nominal", "title": " "}}


def _labels() -> list[Spec]:
    """Names at the places that the page found for them, each with a thin line that leads there."""
    ends = {"x2": {"field": "label_x"}, "y2": {"field": "label_y"}}
    leader = {"x": _channel("x"), "y": _channel("y"), **ends, **_colour()}
    name = {"text": {"field": "name", "type": "nominal"}}
    names = [
        _layer(
            "labels",
            _TEXT | {"align": align, "dx": dx, "color": "$ink"},
            {"x": _channel("label_x"), "y": _channel("label_y"), **name},
            only=f"datum.side == '{side}'",
        )
        for side, align, dx in (("right", "left", 3), ("left", "right", -3))
    ]
    return [_layer("labels", {"type": "rule", "strokeWidth": 1, "opacity": 0.55}, leader), *names]


def _lines() -> Spec:
    """A quantity against length, a line an entry, with its band; crossings with the reference."""
    x, y = _axis("x", "x"), _axis("y", "y")
    x["scale"] |= {"base": 2}
    y["axis"] |= {"labelExpr": "$y_labels"}
    area = {"x": x, **_between(y, "y"), **_detail("name"), **_colour()}
    diamond = {"type": "point", "shape": "diamond", "size": 90, "strokeWidth": 2, "fill": "$paper"}
    place, foot = {"x": _channel("x"), "y": _channel("y")}, _channel("foot")
    crossing = {**place, **_colour("stroke"), **_tooltip()}
    drop = {"type": "rule", "strokeDash": [1, 3], "strokeWidth": 1}
    length = _TEXT | {"dy": -8, "color": "$soft"}
    return _frame(
        [
            _layer("rules", {"type": "rule", "color": "$faint"}, {"y": y}),
            _layer("points", {"type": "area", "opacity": 0.16}, area, only=_HAS_INTERVAL),
            _layer("points", {"type": "line"}, {"x": x, "y": y, **_look()}),
            _points(34, {"x": x, "y": y}),
            _layer("crossings", drop, {**place, "y2": {"field": "foot"}, **_colour()}),
            _layer("crossings", diamond, crossing),
            _layer("crossings", length, {**place, "y": foot, "text": {"field": "label"}}),
            *_labels(),
        ]
    )


def _scatter() -> Spec:
    """Accuracy against a cost, an entry a point; the front is a line."""
    x, y = _axis("x", "x"), _score_axis("y", "y")
    step = {"type": "line", "interpolate": "step-after", "strokeDash": [5, 3], "color": "$faint"}
    bar = {"type": "rule", "strokeWidth": 2, "opacity": 0.55}
    interval = {"x": x, **_between(y, "y"), **_colour()}
    return _frame(
        [
            _layer("front", step, {"x": x, "y": y}),
            _layer("points", bar, interval, only=_HAS_INTERVAL),
            _points(80, {"x": x, "y": y}),
            *_labels(),
        ]
    )


def _scores() -> Spec:
    """A task's scores, a row an entry: a dot a seed, a bar for the mean, its interval behind."""
    row = {
        "field": "name",
        "type": "nominal",
        "sort": "$order",
        "axis": {"title": None, "labelLimit": 180},
        "scale": {"domain": "$order"},
    }
    x = _score_axis("x", "x")
    bar = {"type": "rule", "strokeWidth": 5, "opacity": 0.3, "clip": True}
    interval = {"y": row, **_between(x, "x"), **_colour()}
    mean = {"y": row, "x": x, **_colour(), **_tooltip()}
    return _frame(
        [
            _layer("chance", _CHANCE, {"x": x, **_tooltip()}),
            _layer("means", bar, interval, only=_HAS_INTERVAL),
            _layer("means", {"type": "tick", "thickness": 3, "size": 15}, mean),
            _points(40, {"y": row, "x": x}, opacity=0.75),
        ]
    )


def _curves() -> Spec:
    """Validation scores against steps, a line a seed; and other lines over an axis of any kind."""
    x, y = _axis("x", "x", "$x_scale"), _axis("y", "y", "linear")
    line = {"x": x, "y": y, **_look(), **_detail("run")}
    return _frame(
        [
            _layer("chance", _CHANCE, {"y": y | {"field": "x"}, **_tooltip()}),
            _layer("points", {"type": "line", "opacity": 0.8}, line),
            *_labels(),
        ]
    )


def _roofline() -> Spec:
    """FLOPs per second against FLOPs per byte, under what the machine can do at best."""
    x, y = _axis("x", "x"), _axis("y", "y")
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
