"""Accuracy along a line: against the number of pairs to remember, and against longer examples."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence

from bench.publish.charts.file_names import place_slug
from bench.publish.charts.labels import LINE_HEIGHT, spread
from bench.publish.charts.spec import WIDTH, Chart, Point, Spec, by_entry, end_labels, frame
from bench.publish.charts.style import Style
from bench.publish.leaderboard import Leaderboard
from bench.publish.scores import TaskScores
from bench.publish.tables import place_words

PAIRS = "num_pairs"
"""The setting of a task that capacity is drawn against."""
_LEADER = 16  # pixels from the end of a line to its label
_TOP, _HEIGHT = 103.0, 320
_LINE = 90  # letters that fit above a picture


def capacity(board: Leaderboard, styles: dict[str, Style]) -> Iterator[Chart]:
    """One chart for tasks that differ in the number of pairs alone."""
    groups: dict[tuple[object, ...], list[tuple[int, TaskScores]]] = {}
    for task in board.tasks:
        settings = json.loads(task.settings)
        if not task.unit and (num_pairs := settings.pop(PAIRS, None)) is not None:
            place = (task.machine, task.method_version, task.device, task.num_threads, task.dtype)
            key = (_bare(task), *place, json.dumps(settings, sort_keys=True))
            groups.setdefault(key, []).append((num_pairs, task))
    for group in groups.values():
        points = [
            _point(score.entry, num_pairs, score.accuracy)
            for num_pairs, task in group
            for score in task.scores
            if score.accuracy is not None
        ]
        task = group[0][1]
        title = f"Accuracy on {_bare(task)} against the number of pairs"
        along = "Pairs to remember"
        yield from _chart("capacity", title, along, points, task, board, styles, _states(task))


def extrapolation(board: Leaderboard, styles: dict[str, Style]) -> Iterator[Chart]:
    """One chart for each task whose models were tested on longer examples."""
    for task in board.tasks:
        trained_at = json.loads(task.settings).get("seq_len")
        points = [
            _point(score.entry, length, accuracy)
            for score in task.scores
            if score.longer and score.accuracy is not None
            for length, accuracy in ((trained_at, score.accuracy), *score.longer)
        ]
        title = f"Accuracy on {task.label}, trained at {trained_at} tokens"
        yield from _chart(
            "extrapolation",
            title,
            "Tokens of a test example",
            points,
            task,
            board,
            styles,
        )


def _point(entry: str, size: int, accuracy: float) -> Point:
    return {"entry": entry, "size": size, "value": 100 * accuracy}


def _states(task: TaskScores) -> list[str]:
    """What each entry keeps of an example, in lines; the same for any number of pairs."""
    kept = sorted((s.state_bytes, s.entry) for s in task.scores if s.state_bytes is not None)
    words = ", ".join(f"{entry} {state:,}" for state, entry in kept)
    return textwrap.wrap(f"Bytes of state: {words}", _LINE) if kept else []


def _bare(task: TaskScores) -> str:
    """The label without the words that tell its number of pairs."""
    return re.sub(rf" {PAIRS}=\d+", "", task.label)


def _chart(
    kind: str,
    title: str,
    along: str,
    points: Sequence[Point],
    task: TaskScores,
    board: Leaderboard,
    styles: dict[str, Style],
    more: Sequence[str] = (),
) -> Iterator[Chart]:
    """Nothing with fewer than two sizes."""
    sizes = sorted({point["size"] for point in points})
    if len(sizes) < 2:
        return
    entries = sorted({point["entry"] for point in points})
    height = max(_HEIGHT, (LINE_HEIGHT + 1) * len(entries))
    colour = by_entry({e: styles[e].colour for e in entries})
    x = {
        "field": "size",
        "type": "quantitative",
        "scale": {"type": "log", "base": 2, "domain": [sizes[0], sizes[-1]], "nice": False},
        "axis": {"title": along, "values": sizes, "format": ",d"},
    }
    y = {
        "field": "value",
        "type": "quantitative",
        "scale": {"domain": [0, _TOP], "nice": False},
        "axis": {"title": "Accuracy (%)", "tickCount": 6},
    }
    line = {
        "mark": {"type": "line", "point": {"size": 28, "filled": True}},
        "encoding": {
            "x": x,
            "y": y,
            "color": colour,
            "strokeDash": by_entry({e: styles[e].dash for e in entries}),
            "strokeWidth": by_entry({e: styles[e].thickness for e in entries}),
        },
    }
    seeds = "one seed, one draw" if task.num_seeds == 1 else f"means over {task.num_seeds} seeds"
    notes = [f"{place_words(task, board)} · {task.dtype} · {seeds}", *more]
    layers = [line, *_end_labels(points, sizes, height, colour)]
    spec = frame(title, notes, WIDTH, height) | {
        "data": {"name": "points", "values": list(points)},
        "layer": layers,
    }
    label = _bare(task) if kind == "capacity" else task.label
    name = re.sub(r"[^\w-]+", "-", f"{kind}-{label}-{place_slug(task, board)}")
    yield Chart(name=name, title=title, spec=spec)


def _end_labels(
    points: Iterable[Point], sizes: Sequence[int], height: float, colour: Spec
) -> list[Spec]:
    """Names to the right of the last point of each line, moved apart."""
    last = {point["entry"]: point for point in sorted(points, key=lambda p: p["size"])}
    ends = sorted(last.values(), key=lambda point: (-point["value"], point["entry"]))
    wanted = [height * (1 - point["value"] / _TOP) for point in ends]
    places = spread(wanted, gap=LINE_HEIGHT, low=0, high=height)
    right = sizes[-1] * (sizes[-1] / sizes[0]) ** (_LEADER / WIDTH)
    labels = [
        point | {"label_size": right, "label_value": _TOP * (1 - place / height)}
        for point, place in zip(ends, places, strict=True)
    ]
    return end_labels(labels, colour)
