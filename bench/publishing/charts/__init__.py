"""Pictures as Vega-Lite specifications, built here as plain dicts and rendered to SVG.

Lines and points are labelled directly, without overlaps: with ten entries or forty, a legend of as
many colours could not be read. All specifications come from this package.

`pictures` has one template for each picture, which files, the page and W&B share; `lines`,
`scatter`, `spans`, `curves`, `filters` and `plain` fill them from records for files, with the parts
of `spec` and the axis of `accuracy_axis`; `labels` and `ends` find positions for labels, `style`
gives each entry its colour, shape and dash.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby

from bench.publishing.charts.curves import extrapolation
from bench.publishing.charts.filters import against_share_kept
from bench.publishing.charts.lines import LATENCY, MEMORY, SPEEDUP, against_size
from bench.publishing.charts.scatter import accuracy_against_latency
from bench.publishing.charts.spans import span_charts, width_charts
from bench.publishing.charts.style import styles_of
from bench.publishing.document import Chart as Chart
from bench.publishing.leaderboard import Leaderboard


def charts(board: Leaderboard) -> tuple[Chart, ...]:
    """Every chart that has something to show.

    Speed-up, latency and peak memory against sequence length, or against a model's image size, for
    each setting with two sizes or more; accuracy against latency for each task, or span against
    speed-up, against the state, and over widths where it has rungs; accuracy against the length of
    longer test examples; accuracy, latency and FLOPs against the share of tokens that filters keep.
    """
    styles = styles_of(board)
    drawn: list[Chart | None] = []
    for setting, group in groupby(board.rankings, key=lambda ranking: ranking.setting):
        rankings = tuple(group)
        drawn += [
            against_size(quantity, setting, rankings, board, styles)
            for quantity in (SPEEDUP, LATENCY, MEMORY)
        ]
    drawn += [accuracy_against_latency(task, board, styles) for task in board.tasks]
    for task in board.tasks:
        drawn += span_charts(task, board, styles) if task.rungs else ()
    drawn += width_charts(board, styles)
    drawn += extrapolation(board, styles)
    drawn += [against_share_kept(task, board) for task in board.tasks]
    return tuple(_told_apart([chart for chart in drawn if chart is not None]))


def _told_apart(drawn: Sequence[Chart]) -> Iterator[Chart]:
    """The charts, with a number after a name that an earlier chart has."""
    seen: Counter[str] = Counter()
    for chart in drawn:
        seen[chart.name] += 1
        number = seen[chart.name]
        yield chart if number == 1 else replace(chart, name=f"{chart.name}-{number}")
