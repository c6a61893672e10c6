"""Charts of W&B's own making: their data, and their specifications for W&B's custom charts.

``${field:x}`` is what W&B replaces by the column that a panel names for ``x``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bench.publish.fronts import cost_ranking
from bench.publish.leaderboard import Leaderboard
from bench.publish.tables import setting_words

Rows = tuple[Sequence[str], list[Mapping[str, Any]]]

SCALING, PARETO = "scaling", "pareto"
FIELDS = {
    SCALING: {"x": "seq_len", "y": "latency_ms", "entry": "entry", "setting": "setting"},
    PARETO: {"x": "latency_ms", "y": "accuracy", "entry": "entry", "setting": "task"},
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

_SCHEMA = "https://vega.github.io/schema/vega-lite/v5.json"


def preset(name: str) -> str:
    """The name under which a chart is kept at W&B."""
    return f"attnbench-{name}"


def scaling_rows(board: Leaderboard) -> Rows:
    """Latencies of mechanisms at every length."""
    columns = ("entry", "setting", "line", "seq_len", "latency_ms")
    rows: list[Mapping[str, Any]] = [
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
        if (value := standing.values.get("latency_s"))
    ]
    return columns, rows


def pareto_rows(board: Leaderboard) -> Rows:
    """Accuracies beside latencies, each with the length at which that was taken."""
    columns = ("entry", "task", "accuracy", "latency_ms", "seq_len", "setting")
    rows: list[Mapping[str, Any]] = []
    for task in board.tasks:
        scores = {s.entry: s.accuracy for s in task.scores if s.accuracy is not None}
        ranking = None if task.unit else cost_ranking(task, board, scores)
        for standing in ranking.standings if ranking else ():
            latency = standing.values.get("latency_s")
            if ranking and latency and standing.entry in scores:
                rows.append(
                    {
                        "entry": standing.entry,
                        "task": task.label,
                        "accuracy": scores[standing.entry],
                        "latency_ms": 1e3 * float(latency),
                        "seq_len": ranking.size,
                        "setting": setting_words(ranking.setting, board),
                    }
                )
    return columns, rows


def specification(name: str) -> dict[str, Any]:
    """A chart for W&B's library: log-log lines for scaling, points with names for Pareto."""
    logarithmic = {"type": "log", "nice": False}
    colour = {"field": "${field:entry}", "type": "nominal"}
    common = {"$schema": _SCHEMA, "data": {"name": "wandb"}, "width": "container"}
    if name == SCALING:
        return common | {
            "mark": {"type": "line", "point": True, "tooltip": True},
            "encoding": {
                "x": _axis("x", "Sequence length (tokens)", logarithmic | {"base": 2}),
                "y": _axis("y", "Latency (ms)", logarithmic),
                "color": colour,
                "strokeDash": {"field": "${field:setting}", "type": "nominal"},
            },
        }
    place = {
        "x": _axis("x", "Latency (ms)", logarithmic),
        "y": _axis("y", "Accuracy", {"zero": False}),
    }
    return common | {
        "layer": [
            {
                "mark": {"type": "point", "filled": True, "size": 80, "tooltip": True},
                "encoding": place
                | {"color": colour, "shape": {"field": "${field:setting}", "type": "nominal"}},
            },
            {
                "mark": {"type": "text", "align": "left", "dx": 8},
                "encoding": place | {"text": {"field": "${field:entry}"}},
            },
        ],
    }


def _axis(field: str, title: str, scale: dict[str, Any]) -> dict[str, Any]:
    return {
        "field": f"${{field:{field}}}",
        "type": "quantitative",
        "scale": scale,
        "axis": {"title": title},
    }
