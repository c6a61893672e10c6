"""Accuracy, latency and FLOPs against the share of tokens that a trained model keeps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bench.core.cell import TOKEN_FILTERS
from bench.core.statistics import median_interval
from bench.publishing.charts.file_names import task_slug
from bench.publishing.charts.spec import Chart, Point, Spec, by_entry, frame, quantity_channel
from bench.publishing.charts.style import plain_styles
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
    """A row of three panels for each entry, a line a filter; None where no filter was tried."""
    kept = [row for one in task.scores for row in kept_shares(one.entry, one.records)]
    if not kept:
        return None
    points = [point for row in kept for point in _points(row)]
    entries = list(dict.fromkeys(row.entry for row in kept))
    title = f"Accuracy and cost against the share of tokens kept: {task.label}"
    spec = {name: part for name, part in _frame(title, task, board).items() if name not in _SIZE}
    spec["data"] = {"name": "points", "values": points}
    spec["hconcat"] = [
        _panel(number, words, entries, _names(kept)) for number, words in _PANELS.items()
    ]
    spec["resolve"] = {"scale": {"color": "shared", "shape": "shared"}}
    name = task_slug(f"share-kept-{task.label}", task, board)
    return Chart(name=name, title=title, spec=spec)


_SIZE = ("width", "height")
"""Size of a whole picture; each panel has its own."""


def _frame(title: str, task: TaskScores, board: Leaderboard) -> Spec:
    seeds = "one seed" if task.num_seeds == 1 else f"means over {task.num_seeds} seeds"
    notes = [
        f"{place_words(task, board)} · {task.dtype} · {seeds}",
        "No fine-tuning; dashed: the whole model. random and patch_contrast are controls",
        "Bars are 95 % intervals: accuracy over seeds, latency over rounds beside the whole model",
        provenance(record for score in task.scores for record in score.records),
    ]
    return frame(title, notes, _WIDTH, _HEIGHT)


def _names(kept: Sequence[Kept]) -> list[str]:
    """Names of the filters, in an order that is the same on every picture."""
    found = {row.filter for row in kept} - {WITHOUT}
    return sorted(found, key=lambda name: TOKEN_FILTERS.index(name.partition(" ")[0]))


def _points(row: Kept) -> Iterator[Point]:
    about = {"entry": row.entry, "filter": row.filter, "keep": row.keep}
    between = row.accuracy_interval
    yield about | {
        "number": "accuracy",
        "value": 100 * row.accuracy,
        "low": None if between is None else 100 * between[0],
        "high": None if between is None else 100 * between[1],
    }
    ratios = median_interval(row.ratios)
    yield about | {
        "number": "latency",
        "value": 100 * row.latency_ratio,
        "low": None if ratios is None else 100 / ratios[1],
        "high": None if ratios is None else 100 / ratios[0],
    }
    if row.flops_ratio is not None:
        yield about | {"number": "flops", "value": 100 * row.flops_ratio, "low": None, "high": None}


def _panel(number: str, words: str, entries: Sequence[str], filters: Sequence[str]) -> Spec:
    styles = plain_styles(filters)
    shapes = by_entry({name: style.shape for name, style in styles.items()})
    colour = by_entry({name: style.colour for name, style in styles.items()})
    legend = {"legend": {"title": None}}
    x = quantity_channel("keep", "Share of tokens kept", {"domain": [0, 1]})
    x["axis"] |= {"tickCount": 5}
    y = quantity_channel("value", words, {"zero": number != "accuracy"})
    place = {"x": x, "y": y, "color": colour | {"field": "filter"} | legend}
    of_interval = {"y": y | {"field": "low"}, "y2": {"field": "high"}}
    is_filtered = {"filter": f"datum.filter !== '{WITHOUT}'"}
    whole = {
        "transform": [{"filter": f"datum.filter === '{WITHOUT}'"}],
        "mark": {"type": "rule", "strokeDash": [5, 4], "color": "#333333", "strokeWidth": 1.5},
        "encoding": {"y": y},
    }
    bars = {
        "transform": [is_filtered, {"filter": "isValid(datum.low)"}],
        "mark": {"type": "rule", "strokeWidth": 1.5, "opacity": 0.45},
        "encoding": {"x": x, **of_interval, "color": place["color"]},
    }
    line = {
        "transform": [is_filtered],
        "mark": {"type": "line"},
        "encoding": place,
    }
    dots = {
        "transform": [is_filtered],
        "mark": {"type": "point", "filled": True, "size": 34, "opacity": 1},
        "encoding": place | {"shape": shapes | {"field": "filter"} | legend},
    }
    header = {"title": None, "labelFontSize": 12, "labelFontWeight": "bold"}
    return {
        "transform": [{"filter": f"datum.number === '{number}'"}],
        "facet": {
            "row": {
                "field": "entry",
                "type": "nominal",
                "sort": list(entries),
                "header": header if number == "accuracy" else {"title": None, "labels": False},
            }
        },
        "spec": {"width": _WIDTH, "height": _HEIGHT, "layer": [whole, bars, line, dots]},
    }
