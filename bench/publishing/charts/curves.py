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
        if task.unit or not _is_size(trained_at):
            continue
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
                {"x": size, "y": 100 * (1 - level), "words": words}
                for size in sorted({point["x"] for point in points})
                for words, level in task.plateaus
            ],
        )


def _is_size(setting: Any) -> bool:
    """Whether a setting, which can be anything, is a place on an axis of sizes."""
    return type(setting) is int and setting > 0


def _trained(task: TaskScores) -> list[Score]:
    return [score for score in task.scores if score.accuracy is not None]


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
    name: str,
    title: str,
    along: str,
    points: Sequence[Point],
    task: TaskScores,
    board: Leaderboard,
    styles: dict[str, Style],
    plateaus: Sequence[Point],
) -> Iterator[Chart]:
    """The chart; nothing with fewer than two sizes."""
    sizes = sorted({point["x"] for point in points})
    if len(sizes) < 2:
        return
    entries = sorted({point["name"] for point in points})
    height = height_for(len(entries), _HEIGHT)
    x = size_axis(along, sizes)
    scores = [100 * accuracy for point in points for accuracy in point["accuracies"]]
    parts = [100 - plateau["y"] for plateau in plateaus]
    y = accuracy_axis([*scores, *parts], height, "Accuracy (%)")
    shown: list[Point] = []
    dots: list[Point] = []
    for point in points:
        own = {name: point[name] for name in ("name", "run", "label", "x")}
        own |= {"is_settled": point["is_settled"]} | look(styles[point["name"]])
        shown.append(own | scored(point["centre"], point["interval"], y))
        dots += seeds(point["accuracies"], own)
    least = min((plateau["x"] for plateau in plateaus), default=0)
    spec = picture(
        lines(),
        x,
        y,
        {
            "guides": plateaus,
            "guide_words": [plateau for plateau in plateaus if plateau["x"] == least],
            "bars": [point for point in shown if "low" in point],
            "corners": shown,
            "points": shown,
            "hollow": [point for point in shown if not point["is_settled"]],
            "seeds": dots,
            "labels": end_labels([[p for p in shown if p["name"] == e] for e in entries], x, y),
        },
        title,
        [*_notes(points, task, board)],
    )
    yield Chart(name=task_slug(name, task, board), title=title, spec=spec)


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
