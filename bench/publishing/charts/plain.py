"""Line charts of plain numbers, which need no leaderboard."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

from annotated_types import Len

from bench.core.cli.limits import Number, Text
from bench.publishing.charts.ends import end_labels, height_for
from bench.publishing.charts.pictures import Point, lines
from bench.publishing.charts.spec import WIDTH, linear_axis, log_axis, look, picture
from bench.publishing.charts.style import plain_styles
from bench.publishing.document import Chart

_HEIGHT = 320
_FEW = 6
"""Number of values up to which a linear x axis has a tick at each."""


@dataclass(frozen=True, kw_only=True)
class Curves:
    """Lines of a chart."""

    title: Text
    x: Text
    y: Text
    lines: dict[Text, list[Annotated[list[Number], Len(2, 2)]]]
    is_log: bool = True


def chart_of(name: str, curves: Curves) -> Chart:
    """A chart of lines with labels at their ends."""
    styles = plain_styles(curves.lines)
    drawn: list[list[Point]] = [
        [{"name": line, "run": line, "x": x, "y": y} | look(styles[line]) for x, y in corners]
        for line, corners in curves.lines.items()
        if corners
    ]
    points = [point for line in drawn for point in line]
    along = [float(point["x"]) for point in points] or [1.0]
    heights = [float(point["y"]) for point in points] or [1.0]
    height = height_for(len(drawn), _HEIGHT)
    if curves.is_log:
        x = log_axis(curves.x, along, (0, WIDTH), by=1.0)
    else:
        x = linear_axis(curves.x, along, (0, WIDTH), by=0.0)
        if len(set(along)) <= _FEW:
            x = replace(x, ticks=sorted(set(along)))
    y = linear_axis(curves.y, heights, (height, 0), by=0.05)
    data = {"corners": points, "points": points, "labels": end_labels(drawn, x, y)}
    spec = picture(lines(), x, y, data, curves.title)
    return Chart(name=name, title=curves.title, spec=spec)
