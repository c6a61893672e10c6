"""Pictures of a task with rungs: span against speed-up and against the state, also over widths."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from bench.core.grouping import grouped
from bench.core.record import Record
from bench.publishing.charts.ends import end_labels
from bench.publishing.charts.file_names import task_slug
from bench.publishing.charts.lines import SPEEDUP, shown
from bench.publishing.charts.pictures import Point, as_given, lines
from bench.publishing.charts.scatter import scatter_picture
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


@dataclass(frozen=True, kw_only=True)
class _Across:
    """The x axis: its name in files and in words, a note, and each entry's place and records."""

    slug: str
    words: str
    note: str
    places: Mapping[str, Point]
    records: Sequence[Record] = ()


def span_charts(task: TaskScores, board: Leaderboard, styles: dict[str, Style]) -> Iterator[Chart]:
    """Span against speed-up, at the length that most rows share, and against the state's bytes.

    Controls and rows that may not be ranked are left out, and so is a picture of fewer than two.
    """
    scores = {s.entry: s for s in task.scores if s.spans and s.may_be_ranked and not s.is_control}
    both = (_speedups(task, board, scores), _states(task, scores))
    for across in both:
        if across is not None and len(across.places) > 1:
            yield _chart(task, scores, across, board, styles)


def width_charts(board: Leaderboard, styles: dict[str, Style]) -> Iterator[Chart]:
    """Span against the state's bytes, a line for each row that was trained at two widths or more.

    A dotted line has as many pairs as the state of one head, d x d, holds orthogonal keys: d.
    """
    with_rungs = [t for t in board.tasks if t.rungs and "embed_dim" in t.named_settings]
    for tasks in grouped(with_rungs, _all_but_width).values():
        found: dict[str, list[tuple[TaskScores, Score]]] = {}
        for task in sorted(tasks, key=lambda task: task.named_settings["embed_dim"]):
            for score in task.scores:
                if score.spans and score.may_be_ranked and score.state_bytes:
                    found.setdefault(score.entry, []).append((task, score))
        several = {name: own for name, own in sorted(found.items()) if len(own) > 1}
        if several:
            yield _over_widths(several, board, styles)


def _all_but_width(task: TaskScores) -> tuple[object, ...]:
    settings = {**task.named_settings, "embed_dim": None}
    return (*task.place.values(), _name(task), *map(str, settings.items()))


def _name(task: TaskScores) -> str:
    """The task's name; its label may say in which settings it differs, too."""
    return task.label.partition(" ")[0]


def _over_widths(
    rows: Mapping[str, Sequence[tuple[TaskScores, Score]]],
    board: Leaderboard,
    styles: dict[str, Style],
) -> Chart:
    task = next(iter(rows.values()))[0][0]
    drawn = [
        [_point(score, {"x": (score.state_bytes or 0) / 1024}, styles) for _, score in own]
        for own in rows.values()
    ]
    points = [point | {"run": point["name"]} for line in drawn for point in line]
    x = log_axis("State (KiB)", [point["x"] for point in points], (0, WIDTH), by=1.6)
    y = _span_axis(task, 360)
    scored = [pair for own in rows.values() for pair in own]
    widths = sorted({one.named_settings["embed_dim"] for one, _ in scored})
    layers, heads = (task.named_settings[name] for name in ("num_layers", "num_heads"))
    guide: list[Point] = [
        {"x": layers * heads * size**2 * 4 / 1024, "y": size, "words": "d pairs, of a d x d state"}
        for size in (width // heads for width in widths)
    ]
    data = {
        "guides": guide,
        "guide_words": guide[-1:],
        "bars": [point for point in points if "low" in point],
        "corners": points,
        "points": points,
        "labels": end_labels(drawn, x, y),
    }
    title = f"Span on {_name(task)} against state, over widths"
    notes = [
        f"{place_words(task, board)} · {task.dtype} · {task.named_settings['num_steps']:,} steps · "
        f"widths {', '.join(map(str, widths))}, {heads} heads each",
        "Means over seeds; bars: 95 % intervals",
        provenance(record for _, score in scored for record in score.records),
    ]
    spec = picture(lines(), x, y, data, title, notes)
    return Chart(name=task_slug(f"span-widths-{_name(task)}", task, board), title=title, spec=spec)


def _speedups(task: TaskScores, board: Leaderboard, scores: Mapping[str, Score]) -> _Across | None:
    """Speed-ups over the one reference that all share, the larger the point the more state."""
    ranking = cost_ranking(task, board, scores, SPEEDUP.metric)
    if ranking is None or len(ranking.references) != 1:
        return None
    standings = [
        s for s in shown(SPEEDUP, ranking) if s.entry in scores and s.value(SPEEDUP.metric)
    ]
    places: dict[str, Point] = {}
    for standing in standings:
        place: Point = {"x": float(standing.value(SPEEDUP.metric) or 0.0)}
        if interval := standing.interval(SPEEDUP.metric):
            place |= {"x_low": interval[0], "x_high": interval[1]}
        places[standing.entry] = place
    note = f"Speed: {setting_words(ranking.setting, board)} · {ranking.size:,} tokens"
    states = {name: math.log(scores[name].state_bytes or 1) for name in places}
    if places and all(states.values()):
        least, most = min(states.values()), max(states.values())
        small, large = _POINT_SIZES
        for name, state in states.items():
            share = (state - least) / ((most - least) or 1.0)
            places[name] |= {"size": small + share * (large - small)}
        note += " · larger points keep a larger state"
    return _Across(
        slug="speedup",
        words=f"speed-up over {''.join(ranking.references)} at {ranking.size:,} tokens",
        note=note,
        places=places,
        records=[standing.record for standing in standings],
    )


def _states(task: TaskScores, scores: Mapping[str, Score]) -> _Across:
    """Bytes of the state that each model keeps."""
    kept = {name: score.state_bytes for name, score in scores.items()}
    return _Across(
        slug="state",
        words="state (KiB)",
        note=f"State: after examples of the highest rung, {task.rungs[-1]:,}",
        places={name: {"x": size / 1024} for name, size in kept.items() if size},
    )


def _chart(
    task: TaskScores,
    scores: Mapping[str, Score],
    across: _Across,
    board: Leaderboard,
    styles: dict[str, Style],
) -> Chart:
    points, dots = list[Point](), list[Point]()
    for name, place in sorted(across.places.items()):
        score = scores[name]
        point = _point(score, place, styles)
        points.append(point)
        if len(score.accuracies) > 1:
            dots += [point | {"y": _height(score, one)} for one in score.accuracies]
    seeds = "one seed" if task.num_seeds == 1 else f"mean of {task.num_seeds} seeds, each a dot"
    bars = " · bars: 95 % intervals" if any("low" in point for point in points) else ""
    records = [*across.records, *(r for name in across.places for r in scores[name].records)]
    title = f"Span on {task.label} against {across.words}"
    spec = scatter_picture(
        log_axis(
            f"{across.words[0].upper()}{across.words[1:]}",
            [place["x"] for place in across.places.values()],
            (0, WIDTH),
            by=1.6,
        ),
        _span_axis(task, max(360, 16 * len(points))),
        points,
        dots,
        title,
        [
            f"Span: {place_words(task, board)} · {task.dtype} · {seeds}{bars}",
            across.note,
            provenance(records),
        ],
        **({"size": as_given("size", "quantitative")} if "size" in points[0] else {}),
    )
    name = task_slug(f"span-{across.slug}-{task.label}", task, board)
    return Chart(name=name, title=title, spec=spec)


def _point(score: Score, place: Point, styles: dict[str, Style]) -> Point:
    """A row's point at a place along x, with the interval of its span."""
    point: Point = {"name": score.entry, "label": score.entry, **place, **look(styles[score.entry])}
    point["y"] = _height(score, score.centre or 0.0)
    if score.shown_interval is not None:
        low, high = score.shown_interval
        point |= {"low": _height(score, low), "high": _height(score, high)}
    return point


def _span_axis(task: TaskScores, height: float) -> Axis:
    """A tick at each rung; the lowest and the highest stand for spans beyond the ladder, too."""
    low, high = task.rungs[0], task.rungs[-1]
    beyond = f"datum.value > {high} ? 'over {high:,}' : datum.value < {low} ? 'under {low}'"
    return Axis(
        kind="log",
        base=2,
        ends=(low / _BEYOND**2, high * _BEYOND**2),
        pixels=(height, 0),
        title=f"Span: {task.rung_of} held at 90 %",
        ticks=[low / _BEYOND, *task.rungs[1:-1], high * _BEYOND],
        labels=f"{beyond} : format(datum.value, ',d')",
    )


def _height(score: Score, scaled: float) -> float:
    """Where a span is drawn; one at an end of the ladder beyond it."""
    beyond = _BEYOND if scaled >= 1 else 1 / _BEYOND if scaled <= 0 else 1.0
    return score.in_unit(scaled) * beyond
