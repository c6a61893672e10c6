"""A picture of how times moved over the baselines of one machine class."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

from bench.gate.baselines import Baseline
from bench.gate.history import Step, times_of
from bench.publish.charts.labels import LINE_HEIGHT
from bench.publish.charts.spec import (
    LEADER,
    WIDTH,
    Chart,
    Point,
    band,
    by_entry,
    end_labels,
    frame,
    line_mark,
    log_channel,
    padded,
    quantity_channel,
    spread_labels,
)
from bench.publish.charts.style import plain_styles

_MOST_LINES, _MOST_TICKS = 24, 20


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
    last = len(baselines) - 1
    x = quantity_channel("size", "Baseline", {"domain": [0, last], "nice": False})
    x["axis"] |= {
        "values": list(range(0, len(names), 1 + len(names) // _MOST_TICKS)),
        "labelExpr": f"{json.dumps(names)}[datum.value]",
        "labelAngle": -45,
        "labelAlign": "right",
    }
    y = log_channel("value", "Time over softmax", low, high)
    stretch = math.log(high / low)
    labels = spread_labels(
        points,
        right=last * (1 + LEADER / WIDTH),
        height=height,
        place=lambda value: height * math.log(high / value) / stretch,
        at=lambda place: high * math.exp(-place / height * stretch),
    )
    machine = baselines[-1].machine.slug
    notes = ["Times in the same rounds as softmax; bands: 95 % intervals", machine]
    title = "Times that moved"
    spec = frame(title, notes, WIDTH, height) | {
        "data": {"name": "points", "values": points},
        "layer": [
            *line_mark(styles, x, y),
            *end_labels(labels, colour),
            band(x, y, colour),
        ],
    }
    return Chart(name=f"history-{machine}", title=title, spec=spec)
