"""A picture of how times moved over the baselines of one machine class."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

from bench.gate.baselines import Baseline
from bench.gate.history import Step, times_of
from bench.publish.charts.labels import LINE_HEIGHT, spread
from bench.publish.charts.spec import (
    BAND,
    WIDTH,
    Chart,
    Point,
    by_entry,
    end_labels,
    frame,
    line_mark,
    log_ticks,
    padded,
)
from bench.publish.charts.style import plain_styles

_MOST_LINES, _MOST_TICKS = 24, 20
_LEADER = 16  # pixels from the end of a line to its label


def history_plot(baselines: Sequence[Baseline], found: Sequence[Step]) -> Chart | None:
    """Times over softmax of the cells that moved, a line each; None where none did."""
    times = dict(list(times_of(baselines, found).items())[:_MOST_LINES])
    if not times or len(baselines) < 2:
        return None
    points: list[Point] = [
        {
            "entry": words,
            "size": number,
            "value": time.median,
            "low": time.low,
            "high": time.high,
        }
        for words, series in times.items()
        for number, time in sorted(series.items())
    ]
    height = max(320, (LINE_HEIGHT + 1) * len(times))
    low, high = padded([point[end] for point in points for end in ("low", "high")])
    styles = plain_styles(times)
    colour = by_entry({entry: style.colour for entry, style in styles.items()})
    names = [f"{one.date[5:10]} {one.commit[:7]}" for one in baselines]
    x = {
        "field": "size",
        "type": "quantitative",
        "scale": {"domain": [0, len(baselines) - 1], "nice": False},
        "axis": {
            "title": "Baseline",
            "values": list(range(0, len(names), 1 + len(names) // _MOST_TICKS)),
            "labelExpr": f"{json.dumps(names)}[datum.value]",
            "labelAngle": -45,
            "labelAlign": "right",
        },
    }
    y = {
        "field": "value",
        "type": "quantitative",
        "scale": {"type": "log", "domain": [low, high], "nice": False},
        "axis": {"title": "Time over softmax", "values": log_ticks(low, high), "format": "~r"},
    }
    band = {
        "mark": {"type": "area", "opacity": BAND},
        "encoding": {"x": x, "y": y | {"field": "low"}, "y2": {"field": "high"}, "color": colour},
    }
    last = baselines[-1]
    notes = ["Times in the same rounds as softmax; bands: 95 % intervals", last.machine.slug]
    title = "Times that moved"
    spec = frame(title, notes, WIDTH, height) | {
        "data": {"name": "points", "values": points},
        "layer": [
            *line_mark(styles, x, y),
            *end_labels(_labels(points, len(baselines) - 1, (low, high), height), colour),
            band,
        ],
    }
    return Chart(name=f"history-{last.machine.slug}", title=title, spec=spec)


def _labels(
    points: Sequence[Point], last: int, ends: tuple[float, float], height: float
) -> list[Point]:
    """Names at the right edge, moved apart, each led to from the last point of its line."""
    stretch = math.log(ends[1] / ends[0])
    final = {point["entry"]: point for point in points}.values()
    ordered = sorted(final, key=lambda point: (-point["value"], point["entry"]))
    wanted = [height * math.log(ends[1] / point["value"]) / stretch for point in ordered]
    places = spread(wanted, gap=LINE_HEIGHT, low=0, high=height)
    return [
        point
        | {"label_size": last * (1 + _LEADER / WIDTH)}
        | {"label_value": ends[1] * math.exp(-place / height * stretch)}
        for point, place in zip(ordered, places, strict=True)
    ]
