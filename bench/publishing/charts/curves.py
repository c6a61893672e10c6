"""Accuracy along a line: against the number of pairs to remember, and against longer examples."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence

from bench.core.comparison import Runs, mean_of
from bench.core.format import with_unit
from bench.publishing.charts.accuracy_axis import accuracy_axis, scored
from bench.publishing.charts.file_names import task_slug
from bench.publishing.charts.labels import LINE_HEIGHT
from bench.publishing.charts.spec import (
    GUIDE_TEXT,
    LEADER,
    WIDTH,
    Chart,
    Point,
    Spec,
    by_entry,
    end_labels,
    frame,
    interval_bar,
    line_mark,
    seed_dots,
    size_channel,
    spread_labels,
)
from bench.publishing.charts.style import Style
from bench.publishing.leaderboard import Leaderboard
from bench.publishing.machine import provenance
from bench.publishing.scores import Score, TaskScores
from bench.publishing.tables import place_words

PAIRS = "num_pairs"
"""The setting of a task that capacity is drawn against."""
_HEIGHT = 340


def capacity(board: Leaderboard, styles: dict[str, Style]) -> Iterator[Chart]:
    """One chart for tasks that differ in the number of pairs alone."""
    groups: dict[tuple[object, ...], list[tuple[int, TaskScores]]] = {}
    for task in board.tasks:
        settings = json.loads(task.settings)
        if not task.unit and (num_pairs := settings.pop(PAIRS, None)) is not None:
            key = (_bare(task), *task.place.values(), json.dumps(settings, sort_keys=True))
            groups.setdefault(key, []).append((num_pairs, task))
    for group in groups.values():
        task = group[0][1]
        yield from _chart(
            f"capacity-{_bare(task)}",
            f"Accuracy on {_bare(task)} against the number of pairs",
            "Pairs to remember",
            [_point(score, num_pairs) for num_pairs, task in group for score in _trained(task)],
            task,
            board,
            styles,
            plateaus=[
                {"size": num_pairs, "error": 100 * (1 - level), "words": words}
                for num_pairs, task in group
                for words, level in task.plateaus
            ],
        )


def extrapolation(board: Leaderboard, styles: dict[str, Style]) -> Iterator[Chart]:
    """One chart for each task whose models were tested on longer examples."""
    for task in board.tasks:
        trained_at = json.loads(task.settings).get("seq_len")
        points = [
            point
            for score in _trained(task)
            if score.longer
            for point in (
                _point(score, trained_at),
                *(_point(score, length, accuracies) for length, accuracies in score.longer),
            )
        ]
        yield from _chart(
            f"extrapolation-{task.label}",
            f"Accuracy on {task.label}, trained at {trained_at} tokens",
            "Tokens of a test example",
            points,
            task,
            board,
            styles,
            plateaus=[
                {"size": size, "error": 100 * (1 - level), "words": words}
                for size in sorted({point["size"] for point in points})
                for words, level in task.plateaus
            ],
        )


def _trained(task: TaskScores) -> list[Score]:
    return [score for score in task.scores if score.accuracy is not None]


def _point(score: Score, size: int, longer: Sequence[float] = ()) -> Point:
    """At the length that it was trained at, with the interval of its seeds, or at a longer one.

    Its label has what a model keeps of an example, if it keeps a state.

    Args:
        score: of all seeds.
        size: where the point lies.
        longer: accuracies of the seeds at this length, if it is not the trained one.
    """
    kept = "" if score.state_bytes is None else f", {with_unit('state_bytes', score.state_bytes)}"
    interval = mean_of(Runs(scores=dict(enumerate(longer)))) if longer else score.interval
    return scored(longer or score.accuracies, interval) | {
        "entry": score.entry,
        "size": size,
        "label": score.entry + kept,
        "ended": "not settled" if score.num_unsettled else "settled",
    }


def _bare(task: TaskScores) -> str:
    """The label without the words that tell its number of pairs."""
    return re.sub(rf" {PAIRS}=\d+", "", task.label)


def _chart(
    name: str,
    title: str,
    along: str,
    points: Sequence[Point],
    task: TaskScores,
    board: Leaderboard,
    styles: dict[str, Style],
    plateaus: Sequence[Point],
) -> Iterator[Chart]:
    """Nothing with fewer than two sizes."""
    sizes = sorted({point["size"] for point in points})
    if len(sizes) < 2:
        return
    entries = sorted({point["entry"] for point in points})
    height = max(_HEIGHT, (LINE_HEIGHT + 1) * len(entries))
    errors = [error for point in points for error in point["seeds"]]
    axis = accuracy_axis([100 - error for error in errors], height)
    points = [axis.within(point) for point in points]
    colour = by_entry({e: styles[e].colour for e in entries})
    x = size_channel(along, sizes)
    y = axis.channel("error", "Accuracy (%)")
    place = {"x": x, "y": y, "color": colour}
    line, dots = line_mark({e: styles[e] for e in entries}, x, y)
    right = sizes[-1] * (sizes[-1] / sizes[0]) ** (LEADER / WIDTH)
    labels = spread_labels(points, right, height, axis.place, lambda at: 100 - axis.at(at))
    layers = [
        *_plateau_lines(plateaus),
        interval_bar(place, "y", "error"),
        line,
        _hollow(dots),
        seed_dots(place),
        *end_labels(labels, colour, text="label", value="error"),
    ]
    spec = frame(title, [*_notes(points, task, board)], WIDTH, height) | {
        "data": {"name": "points", "values": list(points)},
        "layer": layers,
    }
    yield Chart(name=task_slug(name, task, board), title=title, spec=spec)


def _notes(points: Sequence[Point], task: TaskScores, board: Leaderboard) -> Iterator[str]:
    seeds = "one seed, one draw"
    if task.num_seeds > 1:
        seeds = f"means over {task.num_seeds} seeds, each a dot, with their 95 % intervals"
    yield f"{place_words(task, board)} · {task.dtype} · {seeds}"
    yield "Accuracies are spread out towards 100 %"
    if any(point["label"] != point["entry"] for point in points):
        yield "Beside a name: what all layers keep of an example to go on, in float32"
    if any(point["ended"] == "not settled" for point in points):
        yield "Hollow: some run still improved when its steps were spent"
    yield provenance(record for score in task.scores for record in score.records)


def _plateau_lines(plateaus: Sequence[Point]) -> Iterator[Spec]:
    """Scores of a model that learned a part: thin dotted lines, with words at the left."""
    if not plateaus:
        return
    first = min(point["size"] for point in plateaus)
    x, y = ({"field": field, "type": "quantitative"} for field in ("size", "error"))
    yield {
        "data": {"values": list(plateaus)},
        "mark": {"type": "line", "strokeDash": [1, 3], "strokeWidth": 1.5, "color": "#777777"},
        "encoding": {"x": x, "y": y, "detail": {"field": "words"}},
    }
    yield {
        "data": {"values": [point for point in plateaus if point["size"] == first]},
        "mark": GUIDE_TEXT | {"align": "left", "dx": 6},
        "encoding": {"x": x, "y": y, "text": {"field": "words"}},
    }


def _hollow(dots: Spec) -> Spec:
    """The points of lines, white inside where a run has not settled."""
    colour = dots["encoding"]["color"]
    white = {"condition": {"test": "datum.ended == 'not settled'", "value": "white"}}
    own = {key: channel for key, channel in dots["encoding"].items() if key != "color"}
    return {
        "mark": dots["mark"] | {"filled": False, "strokeWidth": 1.8},
        "encoding": own | {"stroke": colour, "fill": colour | white},
    }
