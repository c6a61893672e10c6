"""Line charts of accuracy against the length of test examples, longer than those of training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from bench.core.format import with_unit
from bench.publishing.charts.accuracy_axis import accuracy_axis, scored, seeds
from bench.publishing.charts.ends import end_labels, height_for
from bench.publishing.charts.file_names import task_slug
from bench.publishing.charts.pictures import Point, lines
from bench.publishing.charts.spec import look, picture, size_axis
from bench.publishing.charts.style import Style
from bench.publishing.document import Chart
from bench.publishing.leaderboard import Leaderboard
from bench.publishing.machine import provenance
from bench.publishing.scores import Score, TaskScores
from bench.publishing.tables import place_words

_HEIGHT = 340


def extrapolation(board: Leaderboard, styles: dict[str, Style]) -> Iterator[Chart]:
    """One chart for each task whose models were tested on longer examples."""
    for task in board.tasks:
        trained_at: Any = task.named_settings.get("seq_len")
        if not task.unit and _is_size(trained_at):
            points = [*_points(task, trained_at)]
            if len({point["x"] for point in points}) > 1:
                yield _chart(task, trained_at, points, board, styles)


def _is_size(setting: Any) -> bool:
    """Whether a setting, which can be anything, is a place on an axis of sizes."""
    return type(setting) is int and setting > 0


def _points(task: TaskScores, trained_at: int) -> Iterator[Point]:
    """Points of the rows that were tested on longer examples, at each of their sizes."""
    for score in task.scores:
        if score.accuracy is not None and score.longer:
            yield _point(score, trained_at)
            yield from (_point(score, length, accuracies) for length, accuracies in score.longer)


def _point(score: Score, size: int, longer: Sequence[float] = ()) -> Point:
    """Point of a row at a size, with the interval of a typical seed; none where seeds split.

    The label includes the size of the state, if the model keeps one. `longer` are accuracies at
    this size, if it is not the trained one.
    """
    kept = "" if score.state_bytes is None else f", {with_unit('state_bytes', score.state_bytes)}"
    return {
        "name": score.entry,
        "run": score.entry,
        "label": score.entry + kept,
        "x": size,
        "accuracies": longer or score.accuracies,
        "centre": score.centre_of(longer or score.accuracies),
        "interval": score.interval_over(longer) if longer else score.shown_interval,
        "is_settled": not score.num_unsettled,
    }


def _chart(
    task: TaskScores,
    trained_at: int,
    points: Sequence[Point],
    board: Leaderboard,
    styles: dict[str, Style],
) -> Chart:
    sizes = sorted({point["x"] for point in points})
    guides: list[Point] = [
        {"x": size, "y": 100 * (1 - level), "words": words}
        for size in sizes
        for words, level in task.plateaus
    ]
    entries = sorted({point["name"] for point in points})
    height = height_for(len(entries), _HEIGHT)
    x = size_axis("Tokens of a test example", sizes)
    scores = [100 * accuracy for point in points for accuracy in point["accuracies"]]
    y = accuracy_axis([*scores, *(100 - one["y"] for one in guides)], height, "Accuracy (%)")
    shown: list[Point] = []
    dots: list[Point] = []
    for point in points:
        own = {name: point[name] for name in ("name", "run", "label", "x", "is_settled")}
        own |= look(styles[point["name"]])
        shown.append(own | scored(point["centre"], point["interval"], y))
        dots += seeds(point["accuracies"], own)
    data = {
        "guides": guides,
        "guide_words": [one for one in guides if one["x"] == sizes[0]],
        "bars": [point for point in shown if "low" in point],
        "corners": shown,
        "points": shown,
        "hollow": [point for point in shown if not point["is_settled"]],
        "seeds": dots,
        "labels": end_labels([[p for p in shown if p["name"] == e] for e in entries], x, y),
    }
    title = f"Accuracy on {task.label}, trained at {trained_at} tokens"
    spec = picture(lines(), x, y, data, title, [*_notes(points, task, board)])
    name = task_slug(f"extrapolation-{task.label}", task, board)
    return Chart(name=name, title=title, spec=spec)


def _notes(points: Sequence[Point], task: TaskScores, board: Leaderboard) -> Iterator[str]:
    each = "one seed, one draw"
    if task.num_seeds > 1:
        each = f"means over {task.num_seeds} seeds, each a dot; 95 % intervals of a typical seed"
    yield f"{place_words(task, board)} · {task.dtype} · {each}"
    yield "Accuracies are spread out towards 100 %"
    if any(point["label"] != point["name"] for point in points):
        yield "Beside a name: what all layers keep of an example to go on, in float32"
    if any(score.is_split for score in task.scores):
        yield "Where some seeds fail and others do not, the median"
    if not all(point["is_settled"] for point in points):
        yield "Hollow: some run still improved when its steps were spent"
    yield provenance(record for score in task.scores for record in score.records)
