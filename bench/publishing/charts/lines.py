"""Latency and peak memory against sequence length, or against a model's image size."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from bench.core.format import interval_names
from bench.core.record import Speed
from bench.core.statistics import median_interval
from bench.publishing.charts.file_names import slug
from bench.publishing.charts.labels import LINE_HEIGHT, off_the_lines, spread
from bench.publishing.charts.spec import (
    GUIDE_TEXT,
    LEADER,
    WIDTH,
    Chart,
    Point,
    Spec,
    band,
    by_entry,
    end_labels,
    frame,
    line_mark,
    log_channel,
    padded,
    size_channel,
)
from bench.publishing.charts.style import Style
from bench.publishing.growth import crossovers
from bench.publishing.leaderboard import RANKED_BY, Leaderboard, Ranking, Setting, Standing
from bench.publishing.machine import provenance
from bench.publishing.metrics.marks import may_be_ranked
from bench.publishing.tables import setting_words

_SIZES = {"seq_len": ("Sequence length", "tokens"), "image_size": ("Image size", "pixels")}
"""Words and unit of what a chart runs along."""
SAME_PIXELS = 1.5
"""Distance up to which one line hides another: they are named together."""


@dataclass(frozen=True, kw_only=True)
class Axis:
    """A quantity on a logarithmic axis, in the unit in which it is shown.

    Attributes:
        metric: its name in the standings.
        band: what its intervals are; empty for a quantity that has none.
        is_ratio: whether it is over the reference: then rows without a rank are left out, and the
            lengths are marked from which rows are faster.
    """

    metric: str
    words: str
    unit: str
    factor: float
    band: str = ""
    is_ratio: bool = False


SPEEDUP = Axis(
    metric=RANKED_BY,
    words="Speed-up",
    unit="x",
    factor=1.0,
    band="95 % interval",
    is_ratio=True,
)
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
    """One quantity of a setting, a line an entry; None with fewer than two sizes.

    None also for ratios over several references, which do not compare.
    """
    references = {name for ranking in rankings for name in ranking.references}
    if axis.is_ratio and len(references) != 1:
        return None
    points: list[Point] = [
        {"entry": s.entry, "size": ranking.size, "value": float(value) / axis.factor}
        | (_interval(axis, s) if axis.band else {})
        for ranking in rankings
        for s in _shown(axis, ranking)
        if (value := s.value(axis.metric))  # a logarithmic axis has no zero
    ]
    sizes = sorted({point["size"] for point in points})
    if len(sizes) < 2:
        return None
    along, unit = _SIZES[setting.workload.size_axis]
    entries = sorted({point["entry"] for point in points})
    height = max(340, (LINE_HEIGHT + 1) * len(entries))
    crossings = _crossings(setting, entries, board) if axis.is_ratio else []
    values = [v for p in points for v in (p["value"], *_ends(p))]
    low, high = padded([*values, *([0.7 * min(values)] if crossings else [])])
    colour = by_entry({e: styles[e].colour for e in entries})
    x = size_channel(f"{along} ({unit})", sizes)
    words = f"{axis.words} ({axis.unit})"
    if axis.is_ratio:
        words = f"{axis.words} over {''.join(references)}"
    y = log_channel("value", words, low, high)
    layers = [
        *line_mark({e: styles[e] for e in entries}, x, y),
        *end_labels(_end_labels(points, height, low, high), colour, text="names"),
    ]
    notes = [setting_words(setting, board)]
    if axis.is_ratio:
        y["axis"] |= {"labelExpr": "datum.label + 'x'"}
        layers += _crossing_layers(crossings, low, x, y, colour)
        notes += ["Diamonds: from which length on a row is faster"] if crossings else []
    if any(map(_ends, points)):
        only = {"transform": [{"filter": "isValid(datum.low)"}]}
        layers.append(only | band(x, y, colour))
        notes.append(f"Bands: {axis.band}")
    missing = sorted({s.entry for r in rankings for s in r.standings if s.value(axis.metric) == 0})
    if missing:
        notes.append(f"Not drawn, being 0: {', '.join(missing)}")
    shown = [s.record for r in rankings for s in r.standings if s.value(axis.metric)]
    title = f"{words.removesuffix(f' ({axis.unit})')} against {along.lower()}"
    spec = frame(title, [*notes, provenance(shown)], WIDTH, height) | {
        "data": {"name": "points", "values": points},
        "layer": layers,
    }
    name = f"{axis.metric.rpartition('_')[0]}-{slug(setting, board)}".replace("_", "-")
    return Chart(name=name, title=f"{title}: {notes[0]}", spec=spec)


def _shown(axis: Axis, ranking: Ranking) -> Iterator[Standing]:
    """The standings that a chart draws."""
    for standing in ranking.standings:
        is_ranked = standing.rank != "control" and may_be_ranked(standing.record)
        if is_ranked or not axis.is_ratio:
            yield standing


def _crossings(setting: Setting, entries: Collection[str], board: Leaderboard) -> list[Point]:
    """Lengths from which rows are faster; one too near to the one before has no words."""
    found = sorted(
        (crossing.length, name)
        for name, crossing in crossovers(board).get(setting, {}).items()
        if crossing.length and name in entries
    )
    points: list[Point] = []
    for length, name in found:
        before = [point["size"] for point in points if point["words"]][-1:]
        is_free = not before or length > 1.12 * before[0]
        words = f"{length:,.0f}" if is_free else ""
        points.append({"entry": name, "size": length, "value": 1.0, "words": words})
    return points


def _crossing_layers(
    crossings: Sequence[Point], foot: float, x: Spec, y: Spec, colour: Spec
) -> list[Spec]:
    """A diamond each where the speed-up is 1, and a dotted line down to its length."""
    place = {"x": x, "y": y}
    drop = {"type": "rule", "strokeDash": [1, 3], "strokeWidth": 1}
    diamond = {"type": "point", "shape": "diamond", "size": 80, "strokeWidth": 2, "fill": "white"}
    at_foot = place | {"y": y | {"field": "foot"}, "text": {"field": "words"}}
    return [
        {"data": {"values": [point | {"foot": foot, "above": 1.12 * foot} for point in crossings]}}
        | layer
        for layer in (
            {"mark": drop, "encoding": place | {"y2": {"field": "above"}, "color": colour}},
            {"mark": diamond, "encoding": place | {"stroke": colour}},
            {"mark": GUIDE_TEXT | {"align": "center"}, "encoding": at_foot},
        )
        if crossings
    ]


def _interval(axis: Axis, standing: Standing) -> dict[str, float]:
    """Ends of an interval as fields of its point; none with too few rounds."""
    if axis.is_ratio:
        found = [standing.value(end) for end in interval_names(axis.metric)]
        low, high = found if None not in found else (None, None)
    else:
        low, high = latency_interval(standing) or (None, None)
    if low is None or high is None:
        return {}
    return {"low": float(low) / axis.factor, "high": float(high) / axis.factor}


def latency_interval(standing: Standing) -> tuple[float, float] | None:
    """Interval of the median latency in seconds; None with too few rounds."""
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
        (
            line[-1] | {"names": ", ".join(names)}
            for line, names in _together(lines, lambda point: place(point)[1])
        ),
        key=lambda p: (p["size"], -p["value"], p["entry"]),
    )
    labels = []
    for size, group in groupby(ends, key=lambda point: point["size"]):
        here = list(group)
        x = place(here[0])[0] + LEADER
        wanted = [place(point)[1] for point in here]
        places = spread(wanted, gap=LINE_HEIGHT, low=0, high=height)
        if size < final:  # other lines go on past this end
            names = [point["names"] for point in here]
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


def _together(
    lines: Mapping[str, Sequence[Point]], height_of: Callable[[Point], float]
) -> list[tuple[Sequence[Point], list[str]]]:
    """Lines with the names of those that they hide, which end where they do or before."""
    found: list[tuple[Sequence[Point], list[str]]] = []
    for name, line in sorted(lines.items(), key=lambda item: -len(item[1])):
        for longer, names in found:
            heights = {point["size"]: height_of(point) for point in longer}
            if len(line) > 1 and all(
                abs(heights.get(point["size"], math.inf) - height_of(point)) < SAME_PIXELS
                for point in line
            ):
                names.append(name)
                break
        else:
            found.append((line, [name]))
    return found
