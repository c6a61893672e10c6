"""Latency and peak memory against sequence length, or against a model's image size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from bench.publish.charts.file_names import slug
from bench.publish.charts.labels import LINE_HEIGHT, off_the_lines, spread
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
    size_channel,
)
from bench.publish.charts.style import Style
from bench.publish.leaderboard import Leaderboard, Ranking, Setting, Standing
from bench.publish.machine import provenance
from bench.publish.tables import setting_words
from bench.record import Speed
from bench.statistics import median_interval

_SIZES = {"seq_len": ("Sequence length", "tokens"), "image_size": ("Image size", "pixels")}
"""Words and unit of what a chart runs along."""


@dataclass(frozen=True, kw_only=True)
class Axis:
    """A quantity on a logarithmic axis, in the unit in which it is shown.

    Attributes:
        metric: its name in the standings.
        band: what its intervals are; empty for a quantity that has none.
    """

    metric: str
    words: str
    unit: str
    factor: float
    band: str = ""


LATENCY = Axis(
    metric="latency_s",
    words="Latency",
    unit="ms",
    factor=1e-3,
    band="95 % interval of the median",
)
MEMORY = Axis(metric="peak_memory_bytes", words="Peak memory", unit="MiB", factor=2.0**20)


def against_size(
    axis: Axis,
    setting: Setting,
    rankings: Sequence[Ranking],
    board: Leaderboard,
    styles: dict[str, Style],
) -> Chart | None:
    """One quantity of a setting, a line an entry; None with fewer than two sizes."""
    points: list[Point] = [
        {"entry": s.entry, "size": ranking.size, "value": float(value) / axis.factor}
        | (_interval(axis, s) if axis.band else {})
        for ranking in rankings
        for s in ranking.standings
        if (value := s.value(axis.metric))  # a logarithmic axis has no zero
    ]
    sizes = sorted({point["size"] for point in points})
    if len(sizes) < 2:
        return None
    along, unit = _SIZES[setting.workload.size_axis]
    entries = sorted({point["entry"] for point in points})
    height = max(340, (LINE_HEIGHT + 1) * len(entries))
    low, high = padded([v for p in points for v in (p["value"], *_ends(p))])
    colour = by_entry({e: styles[e].colour for e in entries})
    x = size_channel(f"{along} ({unit})", sizes)
    y = log_channel("value", f"{axis.words} ({axis.unit})", low, high)
    layers = [
        *line_mark({e: styles[e] for e in entries}, x, y),
        *end_labels(_end_labels(points, height, low, high), colour),
    ]
    notes = [setting_words(setting, board)]
    if any(map(_ends, points)):
        only = {"transform": [{"filter": "isValid(datum.low)"}]}
        layers.append(only | band(x, y, colour))
        notes.append(f"Bands: {axis.band}")
    missing = sorted({s.entry for r in rankings for s in r.standings if s.value(axis.metric) == 0})
    if missing:
        notes.append(f"Not drawn, being 0: {', '.join(missing)}")
    shown = [s.record for r in rankings for s in r.standings if s.value(axis.metric)]
    title = f"{axis.words} against {along.lower()}"
    spec = frame(title, [*notes, provenance(shown)], WIDTH, height) | {
        "data": {"name": "points", "values": points},
        "layer": layers,
    }
    name = f"{axis.metric.rpartition('_')[0]}-{slug(setting, board)}".replace("_", "-")
    return Chart(name=name, title=f"{title}: {notes[0]}", spec=spec)


def _interval(axis: Axis, standing: Standing) -> dict[str, float]:
    """Of a latency, as fields of its point; none with too few rounds."""
    low, high = latency_interval(standing) or (None, None)
    if low is None or high is None:
        return {}
    return {"low": low / axis.factor, "high": high / axis.factor}


def latency_interval(standing: Standing) -> tuple[float, float] | None:
    """Of the median latency in seconds; None with too few rounds."""
    result = standing.record.result
    return median_interval(result.latency_s) if isinstance(result, Speed) else None


def _ends(point: Point) -> tuple[float, ...]:
    return (point["low"], point["high"]) if "low" in point else ()


def _end_labels(points: Sequence[Point], height: float, low: float, high: float) -> list[Point]:
    """A label to the right of each line's end, moved up or down where others are in the way."""
    stretch = math.log(high / low)
    first, final = min(p["size"] for p in points), max(p["size"] for p in points)

    def place(point: Point) -> tuple[float, float]:
        x = WIDTH * math.log(point["size"] / first) / math.log(final / first)
        return x, height * math.log(high / point["value"]) / stretch

    lines: dict[str, list[Point]] = {}
    for point in sorted(points, key=lambda point: point["size"]):
        lines.setdefault(point["entry"], []).append(point)
    corners = [[place(point) for point in line] for line in lines.values()]
    ends = sorted(
        (line[-1] for line in lines.values()), key=lambda p: (p["size"], -p["value"], p["entry"])
    )
    labels = []
    for size, group in groupby(ends, key=lambda point: point["size"]):
        here = list(group)
        x = place(here[0])[0] + LEADER
        wanted = [place(point)[1] for point in here]
        places = spread(wanted, gap=LINE_HEIGHT, low=0, high=height)
        if size < final:  # other lines go on past this end
            names = [point["entry"] for point in here]
            places = off_the_lines([(x, y) for y in places], names, corners, height)
        labels += [
            point
            | {
                "label_size": first * math.exp(x / WIDTH * math.log(final / first)),
                "label_value": high * math.exp(-y / height * stretch),
            }
            for point, y in zip(here, places, strict=True)
        ]
    return labels
