"""Lines of numbers that are in no record."""

from __future__ import annotations

from dataclasses import dataclass

from bench.publishing.charts.spec import WIDTH, Chart, frame, quantity_channel

_HEIGHT = 320
_COLOURS = (
    *("#1F77B4", "#D62728", "#2CA02C", "#9467BD", "#FF7F0E"),
    *("#8C564B", "#17BECF", "#E377C2", "#7F7F7F", "#BCBD22"),
)


@dataclass(frozen=True, kw_only=True)
class Curves:
    """Lines of a figure.

    Attributes:
        title, x, y: words for it and its axes.
        lines: points (x, y) by the line's name.
        is_log: whether the x axis is logarithmic.
    """

    title: str
    x: str
    y: str
    lines: dict[str, list[list[float]]]
    is_log: bool = True


def chart_of(name: str, curves: Curves) -> Chart:
    """Lines with their names in a legend."""
    points = [
        {"line": line, "x": x, "y": y} for line, corners in curves.lines.items() for x, y in corners
    ]
    scale = {"type": "log" if curves.is_log else "linear", "nice": False}
    x = quantity_channel("x", curves.x, scale)
    y = quantity_channel("y", curves.y, {"zero": False})
    names = list(curves.lines)
    colour = {
        "field": "line",
        "type": "nominal",
        "scale": {"domain": names, "range": list(_COLOURS[: len(names)])},
        "legend": {"title": None},
    }
    spec = frame(curves.title, (), WIDTH, _HEIGHT) | {
        "data": {"values": points},
        "mark": {"type": "line", "point": {"size": 28, "filled": True}},
        "encoding": {"x": x, "y": y, "color": colour},
    }
    return Chart(name=name, title=curves.title, spec=spec)
