"""Scatter of accuracy against latency: what a task's accuracy costs, an entry a point."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence

from bench.publishing.charts.accuracy_axis import AccuracyAxis, accuracy_axis, scored
from bench.publishing.charts.file_names import task_slug
from bench.publishing.charts.labels import place_labels
from bench.publishing.charts.lines import LATENCY, latency_interval
from bench.publishing.charts.spec import (
    GUIDE_TEXT,
    WIDTH,
    Chart,
    Point,
    Spec,
    by_entry,
    entry_names,
    frame,
    interval_bar,
    log_channel,
    padded,
    seed_dots,
)
from bench.publishing.charts.style import Style
from bench.publishing.fronts import cost_ranking
from bench.publishing.leaderboard import Leaderboard, Ranking, Standing
from bench.publishing.machine import provenance
from bench.publishing.scores import Score, TaskScores
from bench.publishing.tables import place_words, setting_words

_MOST_BARS = 16
"""Entries up to which intervals are drawn; bars of more would hide each other."""


def accuracy_against_latency(
    task: TaskScores, board: Leaderboard, styles: dict[str, Style]
) -> Chart | None:
    """A task's entries as points; None with fewer than two, or where no latency is at hand.

    None also for a score that is no share of right answers.
    """
    if task.unit:
        return None
    scores = {s.entry: s for s in task.scores if s.accuracy is not None}
    ranking = cost_ranking(task, board, scores)
    if ranking is None:
        return None
    both = [
        (standing, scores[standing.entry])
        for standing in ranking.standings
        if standing.value(LATENCY.metric) and standing.entry in scores
    ]
    return None if len(both) < 2 else _scatter(task, ranking, both, board, styles)


def _scatter(
    task: TaskScores,
    ranking: Ranking,
    both: Sequence[tuple[Standing, Score]],
    board: Leaderboard,
    styles: dict[str, Style],
) -> Chart:
    height = max(360, 16 * len(both))
    chances = [100 * score.chance for score in task.scores if score.chance is not None]
    seeds = [100 * accuracy for _, score in both for accuracy in score.accuracies]
    axis = accuracy_axis([*seeds, *chances], height)
    points = [axis.within(_point(standing, score)) for standing, score in both]
    low, high = padded([point["latency"] for point in points], by=1.6)
    points = _labelled(points, axis, low, high)
    x = log_channel("latency", f"Latency at {ranking.size:,} tokens (ms)", low, high)
    examples = _examples(task)
    y = axis.channel("error", f"Accuracy{f' on {examples}' if examples else ''} (%)")
    looks = {entry: styles[entry] for entry in sorted(point["entry"] for point in points)}
    title = f"Accuracy on {task.label} against latency"
    notes = _notes(task, ranking, both, board, examples)
    spec = frame(title, notes, WIDTH, height) | {
        "data": {"values": points},
        "layer": [
            *([_chance_line(max(chances), y)] if chances else []),
            *_layers(points, looks, x, y),
        ],
    }
    name = task_slug(f"accuracy-{task.label}", task, board)
    same = [one for one in board.tasks if one.label == task.label]
    if len(same) > 1:
        name += f"-{same.index(task) + 1}"
    return Chart(name=name, title=title, spec=spec)


def _point(standing: Standing, score: Score) -> Point:
    """A mean with the scores of its seeds, and the intervals of both where there are any."""
    point = scored(score.accuracies, score.interval) | {
        "entry": score.entry,
        "label": score.entry + ("*" if _is_provisional(score) else ""),
        "latency": float(standing.value(LATENCY.metric) or 0.0) / LATENCY.factor,
    }
    if interval := latency_interval(standing):
        point |= {"latency_low": interval[0] / LATENCY.factor}
        point |= {"latency_high": interval[1] / LATENCY.factor}
    return point


def _is_provisional(score: Score) -> bool:
    return bool(score.num_unsettled) or not score.may_be_ranked


def _labelled(points: Sequence[Point], axis: AccuracyAxis, low: float, high: float) -> list[Point]:
    """With the place of each name, clear of points and of what leads to other names."""

    def place(point: Point, error: float) -> tuple[float, float]:
        x = WIDTH * math.log(point["latency"] / low) / math.log(high / low)
        return x, axis.place(100 - error)

    spots = place_labels(
        [place(point, point["error"]) for point in points],
        [point["label"] for point in points],
        axis.height,
        [place(point, error) for point in points for error in point["seeds"]],
    )
    return [
        point
        | {
            "label_latency": low * math.exp(spot[0] / WIDTH * math.log(high / low)),
            "label_error": 100 - axis.at(spot[1]),
            "side": spot[2],
        }
        for point, spot in zip(points, spots, strict=True)
    ]


def _layers(points: Sequence[Point], looks: Mapping[str, Style], x: Spec, y: Spec) -> list[Spec]:
    colour = by_entry({entry: look.colour for entry, look in looks.items()})
    shape = by_entry({entry: look.shape for entry, look in looks.items()})
    place = {"x": x, "y": y, "color": colour}
    layers: list[Spec] = [
        {
            "mark": {"type": "rule", "strokeWidth": 1, "color": "#AAAAAA"},
            "encoding": {
                "x": x,
                "y": y,
                "x2": {"field": "label_latency"},
                "y2": {"field": "label_error"},
            },
        },
        *(
            interval_bar(place, axis, field)
            for axis, field in (("x", "latency"), ("y", "error"))
            if len(points) <= _MOST_BARS
        ),
        seed_dots(place),
        {
            "mark": {"type": "point", "filled": True, "size": 75, "opacity": 1},
            "encoding": place | {"shape": shape},
        },
    ]
    for side, align in (("right", "left"), ("left", "right")):
        only = {"transform": [{"filter": f"datum.side == '{side}'"}]}
        layers += [
            only | name
            for name in entry_names("label_latency", "label_error", align=align, text="label")
        ]
    return layers


def _examples(task: TaskScores) -> str:
    """Examples that the accuracy belongs to, as ``examples of 64 tokens``; may be empty."""
    length = json.loads(task.settings).get("seq_len")
    return f"examples of {length:,} tokens" if length else ""


def _notes(
    task: TaskScores,
    ranking: Ranking,
    both: Sequence[tuple[Standing, Score]],
    board: Leaderboard,
    examples: str,
) -> list[str]:
    seeds = (
        "one seed, one draw"
        if task.num_seeds == 1
        else f"mean of {task.num_seeds} seeds, each a dot"
    )
    means = [place_words(task, board), task.dtype, *([examples] if examples else []), seeds]
    notes = [
        f"Latency: {setting_words(ranking.setting, board)} · {ranking.size:,} tokens",
        f"Accuracy: {' · '.join(means)}",
        "Up and to the left is better · accuracies spread out towards 100 %",
    ]
    if len(both) <= _MOST_BARS:
        notes[-1] += " · bars: 95 % intervals"
    if any(_is_provisional(score) for _, score in both):
        notes.append("* without a rank: still improving when its steps were spent, or marked")
    records = [standing.record for standing, _ in both]
    return [*notes, provenance([*records, *(r for _, score in both for r in score.records)])]


def _chance_line(chance: float, y: Spec) -> Spec:
    return {
        "data": {"values": [{"error": 100 - chance}]},
        "encoding": {"y": y},
        "layer": [
            {"mark": {"type": "rule", "strokeDash": [4, 4], "color": "#888888"}},
            {
                "mark": GUIDE_TEXT | {"align": "right"},
                "encoding": {"x": {"value": WIDTH - 4}, "text": {"value": "guessing"}},
            },
        ],
    }
