"""A claim's curves as a chart. No torch."""

from __future__ import annotations

from bench.publish.charts.spec import WIDTH, Chart, frame
from bench.reproduce.stored import Curves

_HEIGHT = 320
_COLOURS = (
    *("#1F77B4", "#D62728", "#2CA02C", "#9467BD", "#FF7F0E"),
    *("#8C564B", "#17BECF", "#E377C2", "#7F7F7F", "#BCBD22"),
)


def chart_of(name: str, curves: Curves) -> Chart:
    """Lines over a logarithmic axis, with their names in a legend."""
    points = [
        {"line": line, "x": x, "y": y} for line, corners in curves.lines.items() for x, y in corners
    ]
    x = {
        "field": "x",
        "type": "quantitative",
        "scale": {"type": "log", "nice": False},
        "axis": {"title": curves.x},
    }
    y = {
        "field": "y",
        "type": "quantitative",
        "scale": {"zero": False},
        "axis": {"title": curves.y},
    }
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
