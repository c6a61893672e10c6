"""Charts of W&B's own making: their data, and their specifications for W&B's custom charts.

``${field:x}`` is what W&B replaces by the column that a panel names for ``x``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.publishing.charts.accuracy_axis import ERROR_CONSTANT
from bench.publishing.charts.spec import quantity_channel
from bench.publishing.charts.style import COLOURS, plain_styles
from bench.publishing.fronts import fronts
from bench.publishing.leaderboard import Leaderboard
from bench.publishing.tables import setting_words

Rows = list[Mapping[str, Any]]

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
"""The column that each chart takes each of its fields from."""

BUILT_IN = {
    SCALING: (
        "wandb/lineseries/v0",
        {"step": "seq_len", "lineKey": "line", "lineVal": "latency_ms"},
    ),
    PARETO: ("wandb/scatter/v0", {"x": "latency_ms", "y": "accuracy"}),
}
"""W&B's own charts, linear in both axes, for a project whose owner is not named."""

_X, _Y = "${field:x}", "${field:y}"
_POINT = {"type": "point", "filled": True, "size": 70, "opacity": 1, "tooltip": True}
_ERROR_TICKS = [0, 0.5, 1, 2, 5, 10, 20, 50, 80, 100]
_SCHEMA = "https://vega.github.io/schema/vega-lite/v5.json"


def preset(name: str) -> str:
    """The name under which a chart is kept at W&B."""
    return f"attnbench-{name}"


def chart_and_fields(name: str, entity: str | None) -> tuple[str, dict[str, str]]:
    """Our own chart where the project's owner is named, else one of W&B's."""
    return (f"{entity}/{preset(name)}", FIELDS[name]) if entity else BUILT_IN[name]


def scaling_rows(board: Leaderboard) -> Rows:
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


def pareto_rows(board: Leaderboard) -> Rows:
    """Accuracies beside latencies of what may be ranked, and the length that a latency is of."""
    return [
        {
            "entry": entry,
            "task": front.task.label,
            "accuracy": score,
            "error_percent": 100 * (1 - score),
            "latency_ms": 1e3 * cost,
            "is_on_front": entry in front.names,
            "what": f"{front.task.label}, latency at {front.ranking.size:,} tokens",
            "seq_len": front.ranking.size,
            "setting": setting_words(front.ranking.setting, board),
        }
        for front in fronts(board)
        if front.metric == "latency_s" and front.ranking and not front.task.unit
        for entry, (cost, score) in front.points.items()
    ]


def specification(name: str) -> dict[str, Any]:
    """A chart for W&B's library, a picture a setting: log-log lines, or costs and their front."""
    colours = list(plain_styles(map(str, range(len(COLOURS)))).values())
    entry = {"field": "${field:entry}", "type": "nominal"}
    look = {
        "color": entry | {"scale": {"range": [style.colour for style in colours]}},
        "shape": entry | {"scale": {"range": [style.shape for style in colours]}},
    }
    layers = _scaling(look) if name == SCALING else _pareto(look)
    return {
        "$schema": _SCHEMA,
        "data": {"name": "wandb"},
        "facet": {"field": "${field:setting}", "type": "nominal", "title": None},
        "columns": 2,
        "spec": {"width": 340, "height": 260, "layer": layers},
    }


def _scaling(look: dict[str, Any]) -> list[dict[str, Any]]:
    place = {
        "x": quantity_channel(
            _X, "Sequence length (tokens)", {"type": "log", "base": 2, "nice": False}
        ),
        "y": quantity_channel(_Y, "Latency (ms)", {"type": "log", "nice": False}),
    }
    return [
        {"mark": "line", "encoding": place | {"color": look["color"] | {"legend": None}}},
        {"mark": _POINT, "encoding": place | look},
    ]


def _pareto(look: dict[str, Any]) -> list[dict[str, Any]]:
    errors = {"type": "symlog", "constant": ERROR_CONSTANT, "reverse": True, "zero": False}
    y = quantity_channel(_Y, "Accuracy (%)", errors)
    y["axis"] |= {"labelExpr": "format(100 - datum.value, '~r')", "values": _ERROR_TICKS}
    place = {"x": quantity_channel(_X, "Latency (ms)", {"type": "log", "padding": 30}), "y": y}
    on_front = {"transform": [{"filter": "datum['${field:front}']"}]}
    grey = {"type": "line", "color": "#999999", "strokeDash": [4, 3]}
    return [
        on_front | {"mark": grey, "encoding": place},
        {"mark": _POINT, "encoding": place | look},
    ]
