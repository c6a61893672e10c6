"""Scatter plots of a task with rungs: span against speed-up, and against the state that is kept."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from bench.publishing.charts.file_names import task_slug
from bench.publishing.charts.lines import SPEEDUP
from bench.publishing.charts.pictures import Point, as_given, scatter
from bench.publishing.charts.scatter import label_points
from bench.publishing.charts.spec import WIDTH, Axis, log_axis, look, picture
from bench.publishing.charts.style import Style
from bench.publishing.document import Chart
from bench.publishing.fronts import cost_ranking
from bench.publishing.leaderboard import Leaderboard
from bench.publishing.machine import provenance
from bench.publishing.scores import Score, TaskScores
from bench.publishing.tables import place_words, setting_words

_BEYOND = 1.12
"""Factor beyond the last rung at which spans that leave the ladder are drawn."""
_POINT_SIZES = (50, 400)
"""Areas of the points of the smallest and of the largest state, in square pixels."""


def span_charts(task: TaskScores, board: Leaderboard, styles: dict[str, Style]) -> Iterator[Chart]:
    """Span against speed-up at the longest length, and against the bytes of the state."""
    scores = {s.entry: s for s in task.scores if s.spans and not s.is_control}
    ranking = cost_ranking(task, board, scores, SPEEDUP.metric)
    if ranking is not None:
        standings = {s.entry: s for s in ranking.standings if s.value(SPEEDUP.metric)}
        places: dict[str, Point] = {}
        for name in scores.keys() & standings.keys():
            places[name] = {"x": float(standings[name].value(SPEEDUP.metric) or 0)}
            if found := standings[name].interval(SPEEDUP.metric):
                places[name] |= {"x_low": found[0], "x_high": found[1]}
        words = f"Speed-up over {''.join(ranking.references)} at {ranking.size:,} tokens"
        note = f"Speed: {setting_words(ranking.setting, board)} · {ranking.size:,} tokens"
        yield from _chart(task, scores, places, words, note, board, styles)
    states: dict[str, Point] = {
        name: {"x": score.state_bytes / 1024} for name, score in scores.items() if score.state_bytes
    }
    note = f"State: after examples of the highest rung, {task.rungs[-1]:,}"
    yield from _chart(task, scores, states, "State (KiB)", note, board, styles)


def _chart(
    task: TaskScores,
    scores: Mapping[str, Score],
    places: Mapping[str, Point],
    words: str,
    note: str,
    board: Leaderboard,
    styles: dict[str, Style],
) -> Iterator[Chart]:
    if len(places) < 2:
        return
    low, high = task.rungs[0], task.rungs[-1]
    height = max(360, 16 * len(places))
    ends = (low / _BEYOND**2, high * _BEYOND**2)
    label = f"datum.value > {high} ? 'over {high:,}' : datum.value < {low} ? 'under {low}' : "
    ticks = [low / _BEYOND, *task.rungs[1:-1], high * _BEYOND]
    y = Axis(
        kind="log",
        base=2,
        ends=ends,
        pixels=(height, 0),
        title=f"Span: {task.rung_of} held at 90 %",
        ticks=ticks,
        labels=f"{label}format(datum.value, ',d')",
    )

    def at(score: Score, scaled: float) -> float:
        """Where a span is drawn: one at an end of the ladder beyond it."""
        beyond = _BEYOND if scaled >= 1 else 1 / _BEYOND if scaled <= 0 else 1.0
        return score.in_unit(min(max(scaled, 0.0), 1.0)) * beyond

    has_states = all(scores[name].state_bytes for name in places) and words != "State (KiB)"
    largest = max(math.log(scores[name].state_bytes or 1) for name in places)
    smallest = min(math.log(scores[name].state_bytes or 1) for name in places)
    points: list[Point] = []
    dots: list[Point] = []
    for name, place in sorted(places.items()):
        score = scores[name]
        point: Point = {"name": name, "label": name, **place, **look(styles[name])}
        point["y"] = at(score, score.centre or 0.0)
        if score.shown_interval is not None:
            bottom, top = score.shown_interval
            point |= {"low": at(score, bottom), "high": at(score, top)}
        if has_states:
            share = math.log(score.state_bytes or 1) - smallest
            share /= (largest - smallest) or 1.0
            point["size"] = _POINT_SIZES[0] + share * (_POINT_SIZES[1] - _POINT_SIZES[0])
        points.append(point)
        if len(score.accuracies) > 1:
            dots += [point | {"y": at(score, one)} for one in score.accuracies]
    x = log_axis(words, [place["x"] for place in places.values()], (0, WIDTH), by=1.6)
    seeds = "one seed" if task.num_seeds == 1 else f"mean of {task.num_seeds} seeds, each a dot"
    title = f"Span on {task.label} against {words[0].lower()}{words[1:]}"
    notes = [
        f"Span: {place_words(task, board)} · {task.dtype} · {seeds} · bars: 95 % intervals",
        note + (" · larger points keep a larger state" if has_states else ""),
        provenance([record for name in places for record in scores[name].records]),
    ]
    spec = picture(
        scatter(),
        x,
        y,
        {
            "cost_bars": [point for point in points if "x_low" in point],
            "bars": [point for point in points if "low" in point],
            "seeds": dots,
            "points": points,
            "labels": label_points(points, dots, x, y),
        },
        title,
        notes,
    )
    if has_states:
        drawn = next(layer for layer in spec["layer"] if layer["data"]["name"] == "points")
        drawn["encoding"]["size"] = as_given("size", "quantitative")
    kind = "state" if words == "State (KiB)" else "speedup"
    yield Chart(name=task_slug(f"span-{kind}-{task.label}", task, board), title=title, spec=spec)
