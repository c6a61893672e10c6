"""Accuracy, latency and FLOPs against the share of tokens that a trained model keeps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bench.core.cell import TOKEN_FILTERS
from bench.core.statistics import median_interval
from bench.publishing.charts.ends import end_labels
from bench.publishing.charts.file_names import task_slug
from bench.publishing.charts.pictures import Point, Spec, lines
from bench.publishing.charts.spec import Axis, linear_axis, look, picture, side_by_side
from bench.publishing.charts.style import Style, plain_styles
from bench.publishing.document import Chart
from bench.publishing.filters import WITHOUT, Kept, kept_shares
from bench.publishing.leaderboard import Leaderboard
from bench.publishing.machine import provenance
from bench.publishing.scores import TaskScores
from bench.publishing.tables import place_words

_PANELS = {
    "accuracy": "Accuracy (%)",
    "latency": "Latency (% of whole)",
    "flops": "FLOPs (% of whole)",
}
_WIDTH, _HEIGHT = 200, 170


def against_share_kept(task: TaskScores, board: Leaderboard) -> Chart | None:
    """A row of three panels per entry, with a line per filter; None if no filter was tried."""
    kept = [row for one in task.scores for row in kept_shares(one.entry, one.records)]
    if not kept:
        return None
    styles = plain_styles(_names(kept))
    rows = [
        [_panel(entry, own, number, styles) for number in _PANELS]
        for entry in dict.fromkeys(row.entry for row in kept)
        for own in [[row for row in kept if row.entry == entry]]
    ]
    title = f"Accuracy and cost against the share of tokens kept: {task.label}"
    name = task_slug(f"share-kept-{task.label}", task, board)
    return Chart(name=name, title=title, spec=side_by_side(rows, title, _notes(task, board)))


def _notes(task: TaskScores, board: Leaderboard) -> list[str]:
    seeds = "one seed" if task.num_seeds == 1 else f"means over {task.num_seeds} seeds"
    return [
        f"{place_words(task, board)} · {task.dtype} · {seeds}",
        "No fine-tuning; dashed: the whole model. random and patch_contrast are controls",
        "Bars are 95 % intervals: accuracy of a typical seed, latency beside the whole model",
        provenance(record for score in task.scores for record in score.records),
    ]


def _names(kept: Sequence[Kept]) -> list[str]:
    """Names of the filters, in an order that is the same on every picture."""
    found = {row.filter for row in kept} - {WITHOUT}
    return sorted(found, key=lambda name: TOKEN_FILTERS.index(name.partition(" ")[0]))


def _panel(entry: str, kept: Sequence[Kept], number: str, styles: dict[str, Style]) -> Spec:
    shown: list[Point] = [
        {"name": row.filter, "run": row.filter, "x": row.keep} | point
        for row in kept
        for point in _points(row, number)
    ]
    whole = [point for point in shown if point["name"] == WITHOUT]
    points = [point | look(styles[point["name"]]) for point in shown if point["name"] != WITHOUT]
    values = [
        one for p in shown for one in (p["y"], p.get("low"), p.get("high")) if one is not None
    ]
    if number != "accuracy":
        values.append(0.0)
    x = Axis(kind="linear", ends=(0, 1), pixels=(0, _WIDTH), title="Share of tokens kept")
    y = linear_axis(_PANELS[number], values, (_HEIGHT, 0), by=0.05)
    of_filters = [[p for p in points if p["name"] == name] for name in styles]
    data = {
        "rules": [{"y": point["y"], "dash": [5, 4]} for point in whole],
        "bars": [point for point in points if "low" in point],
        "corners": points,
        "points": points,
        "labels": end_labels([line for line in of_filters if line], x, y),
    }
    return picture(lines(), x, y, data, entry if number == "accuracy" else "", x_tick_count=5)


def _points(row: Kept, number: str) -> Iterator[Point]:
    """One quantity in percent, with an interval if there is one; nothing if it is unknown."""
    if number == "accuracy":
        interval = row.accuracy_interval
        low, high = interval or (None, None)
        yield {"y": 100 * row.accuracy} | _ends(low, high)
    elif number == "latency":
        ratios = median_interval(row.ratios)
        low, high = (1 / ratios[1], 1 / ratios[0]) if ratios else (None, None)
        yield {"y": 100 * row.latency_ratio} | _ends(low, high)
    elif row.flops_ratio is not None:
        yield {"y": 100 * row.flops_ratio}


def _ends(low: float | None, high: float | None) -> Point:
    return {} if low is None or high is None else {"low": 100 * low, "high": 100 * high}
