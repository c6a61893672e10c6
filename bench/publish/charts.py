"""Pictures as Vega-Lite specifications, built here as plain dicts and rendered to SVG.

Lines and points carry their names directly, placed here so that no two overlap: with ten entries
or forty a legend of as many colours could not be read. Nothing but this module draws.
"""

from __future__ import annotations

import importlib.util
import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from bench.cell import KernelWorkload, ModelWorkload
from bench.publish.files import write_whole
from bench.publish.leaderboard import Leaderboard, Ranking, Setting, TaskScores
from bench.publish.tables import place_words, setting_words

Spec = dict[str, Any]
Point = dict[str, Any]

_SCHEMA = "https://vega.github.io/schema/vega-lite/v5.json"
_WIDTH = 520
_LINE = 14  # pixels between two labels
_LEADER = 16  # pixels from the end of a line to its label
_FONT = 11
_INK = "#333333"

# Okabe and Ito's colours, told apart by every kind of eye, without the yellow that fades on white.
# Black is softmax's, grey the controls'. Dashes tell the second and third seven apart.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7A5195")
_DASHES: tuple[list[int], ...] = ([1, 0], [6, 3], [2, 2], [8, 2, 2, 2])
_REFERENCE = "softmax"
_REFERENCE_COLOUR, _CONTROL_COLOUR = "#000000", "#999999"


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A specification under a file name.

    Attributes:
        name: file name without an ending; says what was held fixed.
        title: for a page that shows it.
    """

    name: str
    title: str
    spec: Spec


@dataclass(frozen=True, kw_only=True)
class Size:
    """What a chart runs along."""

    words: str
    unit: str


SIZES = {
    "seq_len": Size(words="Sequence length", unit="tokens"),
    "image_size": Size(words="Image size", unit="pixels"),
}


@dataclass(frozen=True, kw_only=True)
class Axis:
    """A quantity on a logarithmic axis, in the unit in which it is shown."""

    metric: str
    words: str
    unit: str
    factor: float


LATENCY = Axis(metric="latency_s", words="Latency", unit="ms", factor=1e-3)
MEMORY = Axis(metric="peak_memory_bytes", words="Peak memory", unit="MiB", factor=2.0**20)
CHART_METRICS = (LATENCY.metric, MEMORY.metric)
"""What a leaderboard's standings must hold for `charts` to draw them."""


def charts(board: Leaderboard) -> tuple[Chart, ...]:
    """Every chart that has something to show.

    Latency and peak memory against sequence length, or against a model's image size, one of each a
    setting with two sizes or more; accuracy against latency, one a task.
    """
    styles = _styles(board)
    drawn: list[Chart | None] = []
    for setting, group in groupby(board.rankings, key=lambda ranking: ranking.setting):
        rankings = tuple(group)
        drawn += [
            _against_length(axis, setting, rankings, board, styles) for axis in (LATENCY, MEMORY)
        ]
    drawn += [_accuracy_against_latency(task, board, styles) for task in board.tasks]
    return tuple(chart for chart in drawn if chart is not None)


def write_charts(drawn: Iterable[Chart], folder: Path) -> tuple[list[Path], str | None]:
    """Write each specification, and its picture beside it if it can be rendered.

    Returns:
        The files, pictures among them, and a note on what is missing, if anything is.

    Raises:
        ConfigError: a file cannot be written.
    """
    files = []
    is_drawing = importlib.util.find_spec("vl_convert") is not None
    for chart in drawn:
        text = json.dumps(chart.spec, indent=1)
        files.append(write_whole(folder / f"{chart.name}.vl.json", text + "\n"))
        if is_drawing:
            import vl_convert

            picture = vl_convert.vegalite_to_svg(text)
            files.append(write_whole(folder / f"{chart.name}.svg", picture))
    if is_drawing or not files:
        return files, None
    note = "Charts were written as specifications only; pip install attnbench[charts] draws them."
    return files, note


@dataclass(frozen=True, kw_only=True)
class _Style:
    colour: str
    dash: list[int]
    thickness: float


def _styles(board: Leaderboard) -> dict[str, _Style]:
    """One style an entry, the same in every chart of a board."""
    standings = [standing for ranking in board.rankings for standing in ranking.standings]
    scores = [score for task in board.tasks for score in task.scores]
    controls = {standing.entry for standing in standings if standing.rank == "control"}
    controls |= {score.entry for score in scores if score.is_control}
    entries = {standing.entry for standing in standings} | {score.entry for score in scores}
    styles = {_REFERENCE: _Style(colour=_REFERENCE_COLOUR, dash=_DASHES[0], thickness=3.2)}
    for i, entry in enumerate(sorted(controls)):
        dash = _DASHES[1 + i % (len(_DASHES) - 1)]
        styles[entry] = _Style(colour=_CONTROL_COLOUR, dash=dash, thickness=1.5)
    for i, entry in enumerate(sorted(entries - controls - {_REFERENCE})):
        colour = _COLOURS[i % len(_COLOURS)]
        dash = _DASHES[i // len(_COLOURS) % len(_DASHES)]
        styles[entry] = _Style(colour=colour, dash=dash, thickness=1.8)
    return styles


def _against_length(
    axis: Axis,
    setting: Setting,
    rankings: Sequence[Ranking],
    board: Leaderboard,
    styles: dict[str, _Style],
) -> Chart | None:
    points: list[Point] = [
        {"entry": s.entry, "size": ranking.size, "value": float(value) / axis.factor}
        for ranking in rankings
        for s in ranking.standings
        if (value := s.values[axis.metric])  # a logarithmic axis has no zero
    ]
    sizes = sorted({point["size"] for point in points})
    if len(sizes) < 2:
        return None
    size = SIZES[setting.workload.size_axis]
    entries = sorted({point["entry"] for point in points})
    height = max(320, (_LINE + 1) * len(entries))
    low, high = _padded([point["value"] for point in points])
    labels = _end_labels(points, height, low, high)
    colour = _by_entry("color", {e: styles[e].colour for e in entries})
    x = {
        "field": "size",
        "type": "quantitative",
        "scale": {"type": "log", "base": 2, "domain": [sizes[0], sizes[-1]], "nice": False},
        "axis": {"title": f"{size.words} ({size.unit})", "values": sizes, "format": ",d"},
    }
    y = {
        "field": "value",
        "type": "quantitative",
        "scale": {"type": "log", "domain": [low, high], "nice": False},
        "axis": {
            "title": f"{axis.words} ({axis.unit})",
            "values": _log_ticks(low, high),
            "format": "~r",
        },
    }
    line = {
        "mark": {"type": "line", "point": {"size": 28, "filled": True}},
        "encoding": {
            "x": x,
            "y": y,
            "color": colour,
            "strokeDash": _by_entry("strokeDash", {e: styles[e].dash for e in entries}),
            "strokeWidth": _by_entry("strokeWidth", {e: styles[e].thickness for e in entries}),
        },
    }
    missing = sorted({s.entry for r in rankings for s in r.standings if s.values[axis.metric] == 0})
    notes = [setting_words(setting, board)]
    if missing:
        notes.append(f"Not drawn, being 0: {', '.join(missing)}")
    title = f"{axis.words} against {size.words.lower()}"
    spec = _frame(title, notes, _WIDTH, height) | {
        "data": {"name": "points", "values": points},
        "layer": [line, *_end_label_layers(labels, colour)],
    }
    name = f"{axis.metric.rpartition('_')[0]}-{_slug(setting, board)}".replace("_", "-")
    return Chart(name=name, title=f"{title}: {notes[0]}", spec=spec)


def _end_labels(points: Sequence[Point], height: float, low: float, high: float) -> list[Point]:
    """A label to the right of each line's end, moved up or down where others are in the way."""
    last: dict[str, Point] = {}
    for point in points:
        known = last.get(point["entry"])
        if known is None or point["size"] >= known["size"]:
            last[point["entry"]] = point
    stretch = math.log(high / low)
    first, final = min(p["size"] for p in points), max(p["size"] for p in points)
    ends = sorted(last.values(), key=lambda p: (p["size"], -p["value"], p["entry"]))
    labels = []
    for size, group in groupby(ends, key=lambda point: point["size"]):
        here = list(group)
        wanted = [height * math.log(high / point["value"]) / stretch for point in here]
        places = spread(wanted, gap=_LINE, low=0, high=height)
        x = _WIDTH * math.log(size / first) / math.log(final / first) + _LEADER
        labels += [
            point
            | {
                "label_size": first * math.exp(x / _WIDTH * math.log(final / first)),
                "label_value": high * math.exp(-place / height * stretch),
            }
            for point, place in zip(here, places, strict=True)
        ]
    return labels


def spread(wanted: Sequence[float], *, gap: float, low: float, high: float) -> list[float]:
    """Places at least `gap` apart, in the order given and close to where they were wanted.

    Args:
        wanted: ascending.
        gap: at least this much between two; less where they would not fit otherwise.
        low: where the range to stay in begins.
        high: where it ends.
    """
    gap = min(gap, (high - low) / max(1, len(wanted) - 1))
    # Clusters of touching labels, each centred on what its members wanted.
    clusters: list[list[float]] = []  # [sum of wishes for the first place, number of members]
    for wish in wanted:
        clusters.append([wish, 1])
        while len(clusters) > 1 and _start(clusters[-2]) + gap * clusters[-2][1] > _start(
            clusters[-1]
        ):
            total, count = clusters.pop()
            before = clusters[-1]
            before[0] += total - gap * before[1] * count
            before[1] += count
    places = [_start(c) + gap * i for c in clusters for i in range(int(c[1]))]
    for i in range(len(places)):
        places[i] = max(places[i], low + gap * i)
    for i in reversed(range(len(places))):
        places[i] = min(places[i], high - gap * (len(places) - 1 - i))
    return places


def _start(cluster: list[float]) -> float:
    return cluster[0] / cluster[1]


def _end_label_layers(labels: Sequence[Point], colour: Spec) -> list[Spec]:
    leader = {
        "data": {"values": list(labels)},
        "mark": {"type": "rule", "strokeWidth": 1, "opacity": 0.6},
        "encoding": {
            "x": {"field": "size", "type": "quantitative"},
            "y": {"field": "value", "type": "quantitative"},
            "x2": {"field": "label_size"},
            "y2": {"field": "label_value"},
            "color": colour,
        },
    }
    names = _names("label_size", "label_value", align="left")
    return [leader, *({"data": {"values": list(labels)}} | layer for layer in names)]


def _names(x: str, y: str, *, align: str) -> list[Spec]:
    """Entries as text at two fields, on a white rim that keeps lines off the letters."""
    mark = {"type": "text", "baseline": "middle", "fontSize": _FONT, "align": align}
    mark["dx"] = 3 if align == "left" else -3
    encoding = {
        "x": {"field": x, "type": "quantitative"},
        "y": {"field": y, "type": "quantitative"},
        "text": {"field": "entry"},
    }
    rim = {"stroke": "white", "strokeWidth": 3, "strokeJoin": "round", "color": "white"}
    return [{"mark": mark | look, "encoding": encoding} for look in (rim, {"color": _INK})]


def _accuracy_against_latency(
    task: TaskScores, board: Leaderboard, styles: dict[str, _Style]
) -> Chart | None:
    accuracies = {s.entry: s.accuracy for s in task.scores if s.accuracy is not None}
    ranking = _yardstick(task, board, accuracies)
    if ranking is None:
        return None
    points = [
        {
            "entry": s.entry,
            "latency": float(value) / LATENCY.factor,
            "accuracy": 100 * accuracies[s.entry],
        }
        for s in ranking.standings
        if (value := s.values[LATENCY.metric]) and s.entry in accuracies
    ]
    return None if len(points) < 2 else _scatter(points, task, ranking, board, styles)


def _yardstick(task: TaskScores, board: Leaderboard, entries: Iterable[str]) -> Ranking | None:
    """The ranking whose latencies a task's accuracies are shown against.

    Of the same machine and device, the one with most of the entries; of those the longest one,
    forward before backward.
    """
    wanted = set(entries)

    def fitness(ranking: Ranking) -> tuple[object, ...]:
        timed = {s.entry for s in ranking.standings if s.values[LATENCY.metric]}
        shape = ranking.setting.workload
        assert isinstance(shape, KernelWorkload)
        is_plain = (
            shape.dtype == task.dtype,
            not shape.causal,
            not ranking.setting.extras,
            shape.mode == "forward",
        )
        return (len(timed & wanted), *is_plain, ranking.size)

    same_place = [
        ranking
        for ranking in board.rankings
        if not ranking.setting.is_model
        and (ranking.setting.machine, ranking.setting.device) == (task.machine, task.device)
    ]
    return max(same_place, key=fitness, default=None)


def _scatter(
    points: list[Point],
    task: TaskScores,
    ranking: Ranking,
    board: Leaderboard,
    styles: dict[str, _Style],
) -> Chart:
    entries = sorted({point["entry"] for point in points})
    height = max(340, 14 * len(points))
    low, high = _padded([point["latency"] for point in points], by=1.6)
    chances = [100 * score.chance for score in task.scores if score.chance is not None]
    bottom = max(0.0, min([point["accuracy"] for point in points] + chances) - 6)
    top = 103.0
    places = [
        (
            _WIDTH * math.log(point["latency"] / low) / math.log(high / low),
            height * (top - point["accuracy"]) / (top - bottom),
        )
        for point in points
    ]
    spots = place_labels(places, [point["entry"] for point in points], height)
    points = [
        point
        | {
            "label_latency": low * math.exp(spot[0] / _WIDTH * math.log(high / low)),
            "label_accuracy": top - spot[1] / height * (top - bottom),
            "side": spot[2],
        }
        for point, place, spot in zip(points, places, spots, strict=True)
    ]
    x = {
        "field": "latency",
        "type": "quantitative",
        "scale": {"type": "log", "domain": [low, high], "nice": False},
        "axis": {
            "title": f"Latency at seq_len {ranking.size:,} (ms)",
            "values": _log_ticks(low, high),
            "format": "~r",
        },
    }
    y = {
        "field": "accuracy",
        "type": "quantitative",
        "scale": {"domain": [bottom, top], "nice": False},
        "axis": {"title": "Accuracy (%)", "tickCount": 6},
    }
    colour = _by_entry("color", {e: styles[e].colour for e in entries})
    layers: list[Spec] = [
        {
            "mark": {"type": "rule", "strokeWidth": 1, "color": "#AAAAAA"},
            "encoding": {
                "x": x,
                "y": y,
                "x2": {"field": "label_latency"},
                "y2": {"field": "label_accuracy"},
            },
        },
        {
            "mark": {"type": "point", "filled": True, "size": 70, "opacity": 1},
            "encoding": {"x": x, "y": y, "color": colour},
        },
    ]
    for side, align in (("right", "left"), ("left", "right")):
        only = {"transform": [{"filter": f"datum.side == '{side}'"}]}
        layers += [only | name for name in _names("label_latency", "label_accuracy", align=align)]
    if chances:
        layers.insert(0, _chance_line(max(chances), y))
    title = f"Accuracy on {task.label} against latency"
    notes = [
        f"Latency: {setting_words(ranking.setting, board)}",
        f"Accuracy: {place_words(task, board)}, {task.dtype}; up and to the left is better",
    ]
    spec = _frame(title, notes, _WIDTH, height) | {"data": {"values": points}, "layer": layers}
    name = f"accuracy-{task.label}-{_place_slug(task, board)}"
    same = [one for one in board.tasks if one.label == task.label]
    if len(same) > 1:
        name += f"-{same.index(task) + 1}"
    return Chart(name=re.sub(r"[^\w-]+", "-", name), title=title, spec=spec)


def _chance_line(chance: float, y: Spec) -> Spec:
    return {
        "data": {"values": [{"accuracy": chance}]},
        "encoding": {"y": y},
        "layer": [
            {"mark": {"type": "rule", "strokeDash": [4, 4], "color": "#888888"}},
            {
                "mark": {
                    "type": "text",
                    "align": "right",
                    "baseline": "bottom",
                    "dy": -2,
                    "fontSize": _FONT,
                    "color": "#666666",
                },
                "encoding": {"x": {"value": _WIDTH - 4}, "text": {"value": "guessing"}},
            },
        ],
    }


def place_labels(
    places: Sequence[tuple[float, float]], texts: Sequence[str], height: float
) -> list[tuple[float, float, str]]:
    """For each point the near end of its label and the side it is on, clear of all the others.

    Labels try the near places first, right before left, and then farther up and down. They may run
    over the right edge, where the picture has room for them, and over no other.
    """
    taken = [(x - 6, y - 6, x + 6, y + 6) for x, y in places]
    chosen = []
    for (x, y), text in zip(places, texts, strict=True):
        size = 6.4 * len(text) + 4
        spots = [
            (x + sign * (7 + distance / 3), y + dy, side)
            for distance in range(0, int(height), _LINE)
            for dy in sorted({-distance, distance})
            for sign, side in ((1, "right"), (-1, "left"))
        ]
        inside = (
            s for s in spots if _LINE / 2 <= s[1] <= height - _LINE / 2 and _box(s, size)[0] >= 0
        )
        best = next(
            (s for s in inside if not any(_overlap(_box(s, size), other) for other in taken)),
            spots[0],
        )
        taken.append(_box(best, size))
        chosen.append(best)
    return chosen


Box = tuple[float, float, float, float]


def _box(spot: tuple[float, float, str], size: float) -> Box:
    left = spot[0] if spot[2] == "right" else spot[0] - size
    return (left, spot[1] - _LINE / 2, left + size, spot[1] + _LINE / 2)


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _frame(title: str, notes: Sequence[str], width: float, height: float) -> Spec:
    return {
        "$schema": _SCHEMA,
        "title": {
            "text": title,
            "subtitle": list(notes),
            "anchor": "start",
            "fontSize": 14,
            "subtitleFontSize": _FONT,
            "subtitleColor": "#555555",
            "offset": 12,
        },
        "width": width,
        "height": height,
        "background": "white",
        "padding": 12,
        "config": {
            "view": {"stroke": None},
            "axis": {
                "gridColor": "#E8E8E8",
                "domainColor": "#888888",
                "tickColor": "#888888",
                "labelColor": _INK,
                "titleColor": _INK,
                "labelFontSize": _FONT,
                "titleFontSize": 12,
                "titleFontWeight": "normal",
            },
        },
    }


def _by_entry(channel: str, values: dict[str, Any]) -> Spec:
    return {
        "field": "entry",
        "type": "nominal",
        "scale": {"domain": list(values), "range": list(values.values())},
        "legend": None,
    }


def _padded(values: Sequence[float], by: float = 1.25) -> tuple[float, float]:
    return min(values) / by, max(values) * by


def _log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten, with 2 and 5 between them where the range is short."""
    decades = math.log10(high / low)
    steps = (1, 2, 5) if decades < 3.2 else (1,)
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [float(f"{step}e{exponent}") for exponent in exponents for step in steps]
    return [tick for tick in ticks if low <= tick <= high]


def _slug(setting: Setting, board: Leaderboard) -> str:
    """A file name that says all that was held fixed."""
    shape = setting.workload
    parts = [_place_slug(setting, board), shape.dtype, shape.mode, shape.scope]
    size = f"{shape.batch_size}"
    if isinstance(shape, ModelWorkload):
        parts.append(shape.model)
    else:
        parts += ["causal"] if shape.causal else []
        size += f"x{shape.num_heads}x{shape.head_dim}"
    parts += [*(f"{name}-{value}" for name, value in setting.extras.items()), size]
    return re.sub(r"[^\w]+", "-", "-".join(parts))


def _place_slug(place: Setting | TaskScores, board: Leaderboard) -> str:
    return re.sub(r"[^\w]+", "-", place_words(place, board).replace(":", ""))
