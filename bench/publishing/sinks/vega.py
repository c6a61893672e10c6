"""Custom charts for W&B: their data and their Vega-Lite specifications.

W&B replaces ``${field:x}`` by the column that a panel names for ``x``.
"""

from __future__ import annotations

from typing import Any

from bench.publishing.charts.accuracy_axis import ERROR_CONSTANT, LABELS
from bench.publishing.charts.pictures import Spec, filled, lines, scatter
from bench.publishing.charts.style import COLOURS, plain_styles
from bench.publishing.frame import Row
from bench.publishing.fronts import fronts
from bench.publishing.leaderboard import Leaderboard
from bench.publishing.tables import setting_words

SCALING, PARETO = "scaling", "pareto"
FIELDS = {
    SCALING: {"x": "seq_len", "y": "latency_ms", "entry": "entry", "setting": "setting"},
    PARETO: {
        "x": "latency_ms",
        "y": "error_percent",
        "entry": "entry",
        "setting": "what",
        "front": "is_on_front",
    },
}
"""Column of each field, by chart."""

BUILT_IN = {
    SCALING: (
        "wandb/lineseries/v0",
        {"step": "seq_len", "lineKey": "line", "lineVal": "latency_ms"},
    ),
    PARETO: ("wandb/scatter/v0", {"x": "latency_ms", "y": "accuracy"}),
}
"""W&B's own charts, linear in both axes, which are used if no entity is configured."""

_ERROR_TICKS = [0, 0.5, 1, 2, 5, 10, 20, 50, 80, 100]
_SCHEMA = "https://vega.github.io/schema/vega-lite/v5.json"


def preset(name: str) -> str:
    """The name under which a chart is stored at W&B."""
    return f"attnbench-{name}"


def chart_and_fields(name: str, entity: str | None) -> tuple[str, dict[str, str]]:
    """Name and fields of our own chart if an entity is given, else of one of W&B's."""
    return (f"{entity}/{preset(name)}", FIELDS[name]) if entity else BUILT_IN[name]


def scaling_rows(board: Leaderboard) -> list[Row]:
    """Latencies of mechanisms at every length."""
    return [
        {
            "entry": standing.entry,
            "setting": setting_words(ranking.setting, board),
            "line": f"{standing.entry}, {setting_words(ranking.setting, board)}",
            "seq_len": ranking.size,
            "latency_ms": 1e3 * float(value),
        }
        for ranking in board.rankings
        if not ranking.setting.is_model
        for standing in ranking.standings
        if (value := standing.value("latency_s"))
    ]


def pareto_rows(board: Leaderboard) -> list[Row]:
    """Accuracies and latencies of ranked rows, and the length of each latency.

    A row is on the front if every cheaper row is behind it.
    """
    return [
        {
            "entry": entry,
            "task": front.task.label,
            "accuracy": score,
            "error_percent": 100 * (1 - score),
            "latency_ms": 1e3 * cost,
            "is_on_front": entry in front.clear,
            "what": f"{front.task.label}, latency at {front.ranking.size:,} tokens",
            "seq_len": front.ranking.size,
            "setting": setting_words(front.ranking.setting, board),
        }
        for front in fronts(board)
        if front.metric == "latency_s" and front.ranking and front.task.metric == "accuracy"
        for entry, (cost, score) in front.points.items()
    ]


def specification(name: str) -> Spec:
    """Specification of a custom chart: our picture, one per setting, with W&B's columns.

    Intervals and positions of labels need more than the columns of a table, so they are left out;
    a legend replaces the labels.
    """
    template, values = _PICTURES[name]
    drawn = filled(template, _TEXTS | values, {"corners": [{}], "points": [{}], "front": [{}]})
    layers = [_for_wandb(layer) for layer in drawn["layer"]]
    return {
        "$schema": _SCHEMA,
        "data": {"name": "wandb"},
        "facet": {"field": "${field:setting}", "type": "nominal", "title": None},
        "columns": 2,
        "spec": {"width": 340, "height": 260, "layer": layers},
    }


_TEXTS = {"faint": "#999999", "x_type": "log", "y_format": "~r", "x_format": ",~r"}
_ERRORS = {
    "y_type": "symlog",
    "y_constant": ERROR_CONSTANT,
    "y_zero": False,
    "y_reverse": True,
    "y_ticks": _ERROR_TICKS,
    "y_labels": LABELS,
}
_PICTURES: dict[str, tuple[Spec, dict[str, Any]]] = {
    SCALING: (
        lines(),
        {
            "x_title": "Sequence length (tokens)",
            "x_base": 2,
            "y_title": "Latency (ms)",
            "y_type": "log",
        },
    ),
    PARETO: (
        scatter(),
        {"x_title": "Latency (ms)", "x_padding": 30, "y_title": "Accuracy (%)"} | _ERRORS,
    ),
}
"""Template of each chart, and values of its placeholders that do not depend on the data."""


def _for_wandb(layer: Spec) -> Spec:
    """A layer in W&B's fields: the position, and the entry as colour and shape."""
    looks = list(plain_styles(map(str, range(len(COLOURS)))).values())
    entry = {"field": "${field:entry}", "type": "nominal"}
    of_entry = {
        "color": entry | {"scale": {"range": [style.colour for style in looks]}},
        "shape": entry | {"scale": {"range": [style.shape for style in looks]}},
    }
    channels = {
        name: channel | {"field": f"${{field:{name}}}"} if name in ("x", "y") else of_entry[name]
        for name, channel in layer["encoding"].items()
        if name in ("x", "y", *of_entry)
    }
    is_front = layer["data"]["name"] == "front"
    only = {"transform": [{"filter": "datum['${field:front}']"}]} if is_front else {}
    tooltip = {"tooltip": True} if layer["mark"]["type"] == "point" else {}
    return {**only, "mark": layer["mark"] | tooltip, "encoding": channels}
