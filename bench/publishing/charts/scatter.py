"""Scatter plot of accuracy against latency, one point per entry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain

from bench.publishing.charts.accuracy_axis import accuracy_axis, scored, seeds
from bench.publishing.charts.file_names import task_slug
from bench.publishing.charts.labels import place_labels
from bench.publishing.charts.lines import LATENCY
from bench.publishing.charts.pictures import Point, Spec, scatter
from bench.publishing.charts.spec import WIDTH, Axis, log_axis, look, picture
from bench.publishing.charts.style import Style
from bench.publishing.document import Chart
from bench.publishing.fronts import cost_ranking, fronts
from bench.publishing.leaderboard import Leaderboard, Ranking, Standing
from bench.publishing.machine import provenance
from bench.publishing.scores import Score, TaskScores
from bench.publishing.tables import direction_words, place_words, setting_words

_MOST_BARS = 16
"""Largest number of entries with intervals; more bars would hide each other."""


def accuracy_against_latency(
    task: TaskScores, board: Leaderboard, styles: dict[str, Style]
) -> Chart | None:
    """A task's entries as points; None with fewer than two that have a latency.

    None also for a score that is not a share of right answers.
    """
    if task.unit or task.rungs:
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
    examples = _examples(task)
    y = accuracy_axis(
        [*(100 * one for _, score in both for one in score.accuracies), *chances],
        height,
        f"Accuracy{f' on {examples}' if examples else ''} (%)",
    )
    points = [_point(standing, score, y) | look(styles[score.entry]) for standing, score in both]
    latencies = [point["x"] for point in points]
    x = log_axis(f"Latency at {ranking.size:,} tokens (ms)", latencies, (0, WIDTH), by=1.6)
    dots = [seeds(score.accuracies, point) for (_, score), point in zip(both, points, strict=True)]
    guesses = [
        {"x": x.ends[1], "y": 100 - chance, "words": "guessing"} for chance in sorted(chances)[-1:]
    ]
    front = _front(task, ranking, points, board)
    direction = direction_words(ranking.setting.workload)
    title = f"Accuracy on {task.label} against latency, {direction}"
    spec = scatter_picture(
        x,
        y,
        points,
        [*chain(*dots)],
        title,
        _notes(task, ranking, both, board, examples, bool(front)),
        {
            "guides": [guess | {"x": end} for guess in guesses for end in x.ends],
            "guide_words": guesses,
            "front": front,
        },
        guide_align="right",
        guide_dx=-6,
    )
    name = task_slug(f"accuracy-{task.label}", task, board)
    same = [one for one in board.tasks if one.label == task.label]
    if len(same) > 1:
        name += f"-{same.index(task) + 1}"
    return Chart(name=name, title=title, spec=spec)


def _point(standing: Standing, score: Score, y: Axis) -> Point:
    """Point of an entry: accuracy and latency, each with its interval if there is one."""
    point = scored(score.centre or 0.0, score.shown_interval, y) | {
        "name": score.entry,
        "label": score.entry + ("*" if _is_provisional(score) else ""),
        "x": float(standing.value(LATENCY.metric) or 0.0) / LATENCY.factor,
    }
    if interval := standing.interval(LATENCY.metric):
        point |= {"x_low": interval[0] / LATENCY.factor, "x_high": interval[1] / LATENCY.factor}
    return point


def _is_provisional(score: Score) -> bool:
    return bool(score.num_unsettled) or not score.may_be_ranked


def _front(
    task: TaskScores, ranking: Ranking, points: Sequence[Point], board: Leaderboard
) -> list[Point]:
    """Points of rows of which every cheaper row is behind; empty if there is only one."""
    key = (id(task), id(ranking), LATENCY.metric)
    found = (one for one in fronts(board) if (id(one.task), id(one.ranking), one.metric) == key)
    names = [name for front in found for name in front.clear]
    own = [point for point in points if point["name"] in names]
    return sorted(own, key=lambda point: point["x"]) if len(own) > 1 else []


def scatter_picture(
    x: Axis,
    y: Axis,
    points: Sequence[Point],
    dots: Sequence[Point],
    title: str,
    notes: Sequence[str],
    more: Mapping[str, Sequence[Point]] | None = None,
    **values: object,
) -> Spec:
    """Labelled points with their intervals, a dot for each seed, and more data of the template."""
    has_bars = len(points) <= _MOST_BARS
    data = {
        **(more or {}),
        "cost_bars": [point for point in points if "x_low" in point and has_bars],
        "bars": [point for point in points if "low" in point and has_bars],
        "seeds": dots,
        "points": points,
        "labels": _labels(points, dots, x, y),
    }
    return picture(scatter(), x, y, data, title, notes, **values)


def _labels(points: Sequence[Point], dots: Sequence[Point], x: Axis, y: Axis) -> list[Point]:
    """Labels that keep clear of points, and of other labels and their leader lines."""
    spots = place_labels(
        [(x.pixel(point["x"]), y.pixel(point["y"])) for point in points],
        [point["label"] for point in points],
        y.pixels[0],
        [(x.pixel(dot["x"]), y.pixel(dot["y"])) for dot in dots],
    )
    return [
        point
        | {"name": point["label"], "side": side}
        | {"label_x": x.value(across), "label_y": y.value(down)}
        for point, (across, down, side) in zip(points, spots, strict=True)
    ]


def _examples(task: TaskScores) -> str:
    """Test examples in words, e.g. ``examples of 64 tokens``; may be empty."""
    length = task.named_settings.get("seq_len")
    return f"examples of {length:,} tokens" if isinstance(length, int) and length else ""


def _notes(
    task: TaskScores,
    ranking: Ranking,
    both: Sequence[tuple[Standing, Score]],
    board: Leaderboard,
    examples: str,
    has_front: bool,
) -> list[str]:
    each = (
        "one seed, one draw"
        if task.num_seeds == 1
        else f"mean of {task.num_seeds} seeds, each a dot"
    )
    if any(score.is_split for _, score in both):
        each += ", or median where they split"
    means = [place_words(task, board), task.dtype, *([examples] if examples else []), each]
    notes = [
        f"Latency: {setting_words(ranking.setting, board)} · {ranking.size:,} tokens",
        f"Accuracy: {' · '.join(means)}",
        "Up and to the left is better · accuracies spread out towards 100 %",
    ]
    if len(both) <= _MOST_BARS:
        notes[-1] += " · bars: 95 % intervals, of a typical seed"
    if has_front:
        notes.append("Dashed: every cheaper row is behind those on it")
    if any(_is_provisional(score) for _, score in both):
        notes.append("* without a rank: still improving when its steps were spent, or marked")
    records = [standing.record for standing, _ in both]
    return [*notes, provenance([*records, *(r for _, score in both for r in score.records)])]
