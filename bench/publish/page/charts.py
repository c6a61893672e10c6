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


def _colour(channel: str = "color") -> Spec:
    return {channel: {"field": "colour", "type": "nominal", "scale": None, "legend": None}}


def _look() -> Spec:
    return {
        **_colour(),
        "strokeDash": {"field": "dash", "type": "nominal", "scale": None, "legend": None},
        "strokeWidth": {"field": "thickness", "type": "ordinal", "scale": None, "legend": None},
        "detail": {"field": "name", "type": "nominal"},
    }


def _tooltip() -> Spec:
    return {"tooltip": {"field": "tip", "type": "nominal", "title": " "}}


def _labels(data: str, align: str = "left") -> list[Spec]:
    """Names at the places that the page found for them, each with a thin line that leads there."""
    place: Spec = {"x": _channel("label_x"), "y": _channel("label_y")}
    leader = {
        "data": {"name": data},
        "mark": {"type": "rule", "strokeWidth": 1, "opacity": 0.55},
        "encoding": {
            "x": _channel("x"),
            "y": _channel("y"),
            "x2": {"field": "label_x"},
            "y2": {"field": "label_y"},
            **_colour(),
        },
    }
    text: Spec = {"text": {"field": "name", "type": "nominal"}}
    names = [
        {
            "data": {"name": data},
            "transform": [{"filter": f"datum.side == '{side}'"}],
            "mark": _TEXT | {"align": side_align, "dx": dx, "color": "$ink"},
            "encoding": place | text,
        }
        for side, side_align, dx in (("right", "left", 3), ("left", "right", -3))
    ]
    return [leader, *names]


def _lines() -> Spec:
    """A quantity against length, a line an entry, with its band; crossings with the reference."""
    x, y = _axis("x", "x"), _axis("y", "y")
    band: Spec = {
        "data": {"name": "points"},
        "transform": [{"filter": "isValid(datum.low)"}],
        "mark": {"type": "area", "opacity": 0.16},
        "encoding": {
            "x": x,
            "y": y | {"field": "low"},
            "y2": {"field": "high"},
            "detail": {"field": "name", "type": "nominal"},
            **_colour(),
        },
    }
    line: Spec = {"data": {"name": "points"}, "mark": {"type": "line"}}
    line["encoding"] = {"x": x, "y": y, **_look()}
    dots: Spec = {"data": {"name": "points"}, "mark": {"type": "point", "filled": True, "size": 34}}
    dots["encoding"] = {"x": x, "y": y, **_colour(), **_tooltip(), "opacity": {"value": 1}}
    crossings = {
        "data": {"name": "crossings"},
        "mark": {
            "type": "point",
            "shape": "diamond",
            "size": 90,
            "strokeWidth": 2,
            "fill": "$paper",
        },
        "encoding": {"x": _channel("x"), "y": _channel("y"), **_colour("stroke"), **_tooltip()},
    }
    return _frame([band, line, dots, crossings, *_labels("labels")])


def _scatter() -> Spec:
    """Accuracy against a cost, an entry a point; the front is a line."""
    x, y = _axis("x", "x"), _score_axis("y", "y")
    front = {
        "data": {"name": "front"},
        "mark": {
            "type": "line",
            "interpolate": "step-after",
            "strokeDash": [5, 3],
            "color": "$faint",
        },
        "encoding": {"x": x, "y": y},
    }
    spread = {
        "data": {"name": "points"},
        "transform": [{"filter": "isValid(datum.low)"}],
        "mark": {"type": "rule", "strokeWidth": 2, "opacity": 0.55},
        "encoding": {"x": x, "y": y | {"field": "low"}, "y2": {"field": "high"}, **_colour()},
    }
    points: Spec = {
        "data": {"name": "points"},
        "mark": {"type": "point", "filled": True, "size": 80},
    }
    points["encoding"] = {"x": x, "y": y, **_colour(), **_tooltip(), "opacity": {"value": 1}}
    return _frame([front, spread, points, *_labels("labels")])


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
    chance = {
        "data": {"name": "chance"},
        "mark": {"type": "rule", "strokeDash": [4, 4], "color": "$faint"},
        "encoding": {"x": x, **_tooltip()},
    }
    interval = {
        "data": {"name": "means"},
        "transform": [{"filter": "isValid(datum.low)"}],
        "mark": {"type": "rule", "strokeWidth": 5, "opacity": 0.3, "clip": True},
        "encoding": {"y": row, "x": x | {"field": "low"}, "x2": {"field": "high"}, **_colour()},
    }
    mean: Spec = {"data": {"name": "means"}, "mark": {"type": "tick", "thickness": 3, "size": 15}}
    mean["encoding"] = {"y": row, "x": x, **_colour(), **_tooltip()}
    seeds: Spec = {
        "data": {"name": "points"},
        "mark": {"type": "point", "filled": True, "size": 40},
    }
    seeds["encoding"] = {"y": row, "x": x, **_colour(), **_tooltip(), "opacity": {"value": 0.75}}
    return _frame([chance, interval, mean, seeds])


def _curves() -> Spec:
    """Validation scores against steps, a line a seed; and other lines over an axis of any kind."""
    x, y = _axis("x", "x", "$x_scale"), _axis("y", "y", "linear")
    line: Spec = {"data": {"name": "points"}, "mark": {"type": "line", "opacity": 0.8}}
    line["encoding"] = {"x": x, "y": y, **_look(), "detail": {"field": "run", "type": "nominal"}}
    chance = {
        "data": {"name": "chance"},
        "mark": {"type": "rule", "strokeDash": [4, 4], "color": "$faint"},
        "encoding": {"y": y | {"field": "x"}, **_tooltip()},
    }
    return _frame([chance, line, *_labels("labels")])


def _roofline() -> Spec:
    """FLOPs per second against FLOPs per byte, under what the machine can do at best."""
    x, y = _axis("x", "x"), _axis("y", "y")
    roofs = {
        "data": {"name": "roofs"},
        "mark": {"type": "line", "color": "$faint", "strokeWidth": 2, "clip": True},
        "encoding": {
            "x": x,
            "y": y,
            "detail": {"field": "roof", "type": "nominal"},
            **_tooltip(),
        },
    }
    names = {
        "data": {"name": "roof_names"},
        "mark": _TEXT | {"align": "left", "dy": -7, "color": "$soft", "clip": True},
        "encoding": {"x": _channel("x"), "y": _channel("y"), "text": {"field": "name"}},
    }
    points: Spec = {
        "data": {"name": "points"},
        "mark": {"type": "point", "filled": True, "size": 80},
    }
    points["encoding"] = {"x": x, "y": y, **_colour(), **_tooltip(), "opacity": {"value": 1}}
    return _frame([roofs, names, points, *_labels("labels")])
