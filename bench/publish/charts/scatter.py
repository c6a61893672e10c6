"""What a task's accuracy costs: accuracy against latency, an entry a point."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from bench.cell import KernelWorkload
from bench.publish.charts.file_names import place_slug
from bench.publish.charts.labels import place_labels
from bench.publish.charts.lines import LATENCY
from bench.publish.charts.spec import (
    FONT,
    WIDTH,
    Chart,
    Point,
    Spec,
    by_entry,
    entry_names,
    frame,
    log_ticks,
    padded,
)
from bench.publish.charts.style import Style
from bench.publish.leaderboard import Leaderboard, Ranking
from bench.publish.scores import TaskScores
from bench.publish.tables import place_words, setting_words


def accuracy_against_latency(
    task: TaskScores, board: Leaderboard, styles: dict[str, Style]
) -> Chart | None:
    """A task's entries as points; None with fewer than two, or where no latency is at hand.

    None also for a score that is no share of right answers.
    """
    if task.unit:
        return None
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
    styles: dict[str, Style],
) -> Chart:
    entries = sorted({point["entry"] for point in points})
    height = max(340, 14 * len(points))
    low, high = padded([point["latency"] for point in points], by=1.6)
    chances = [100 * score.chance for score in task.scores if score.chance is not None]
    bottom = max(0.0, min([point["accuracy"] for point in points] + chances) - 6)
    top = 103.0
    places = [
        (
            WIDTH * math.log(point["latency"] / low) / math.log(high / low),
            height * (top - point["accuracy"]) / (top - bottom),
        )
        for point in points
    ]
    spots = place_labels(places, [point["entry"] for point in points], height)
    points = [
        point
        | {
            "label_latency": low * math.exp(spot[0] / WIDTH * math.log(high / low)),
            "label_accuracy": top - spot[1] / height * (top - bottom),
            "side": spot[2],
        }
        for point, spot in zip(points, spots, strict=True)
    ]
    x = {
        "field": "latency",
        "type": "quantitative",
        "scale": {"type": "log", "domain": [low, high], "nice": False},
        "axis": {
            "title": f"Latency at seq_len {ranking.size:,} (ms)",
            "values": log_ticks(low, high),
            "format": "~r",
        },
    }
    y = {
        "field": "accuracy",
        "type": "quantitative",
        "scale": {"domain": [bottom, top], "nice": False},
        "axis": {"title": "Accuracy (%)", "tickCount": 6},
    }
    colour = by_entry({e: styles[e].colour for e in entries})
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
        layers += [
            only | name for name in entry_names("label_latency", "label_accuracy", align=align)
        ]
    if chances:
        layers.insert(0, _chance_line(max(chances), y))
    title = f"Accuracy on {task.label} against latency"
    notes = [
        f"Latency: {setting_words(ranking.setting, board)}",
        f"Accuracy: {place_words(task, board)}, {task.dtype}; up and to the left is better",
    ]
    spec = frame(title, notes, WIDTH, height) | {"data": {"values": points}, "layer": layers}
    name = f"accuracy-{task.label}-{place_slug(task, board)}"
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
                    "fontSize": FONT,
                    "color": "#666666",
                },
                "encoding": {"x": {"value": WIDTH - 4}, "text": {"value": "guessing"}},
            },
        ],
    }
