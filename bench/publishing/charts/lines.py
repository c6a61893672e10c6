"""Speed-up, latency and peak memory against sequence length, or against a model's image size."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from bench.publishing.charts.ends import end_labels, height_for
from bench.publishing.charts.file_names import slug
from bench.publishing.charts.pictures import Point, lines
from bench.publishing.charts.spec import log_axis, look, picture, size_axis
from bench.publishing.charts.style import Style
from bench.publishing.document import Chart
from bench.publishing.growth import crossovers
from bench.publishing.leaderboard import RANKED_BY, Leaderboard, Ranking, Setting, Standing
from bench.publishing.machine import provenance
from bench.publishing.metrics.marks import may_be_ranked
from bench.publishing.tables import direction_words, setting_words

_SIZES = {"seq_len": ("Sequence length", "tokens"), "image_size": ("Image size", "pixels")}
"""Name and unit of the x axis, by the axis of the size."""


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """A quantity on a logarithmic axis, in the unit in which it is shown.

    Attributes:
        factor: number of base units in one `unit`.
        band: description of its intervals; empty for a quantity without any.
        is_ratio: whether it is a ratio to the reference. Then rows that are not ranked are left
            out, and crossovers are marked.
    """

    metric: str
    words: str
    unit: str
    factor: float
    band: str = ""
    is_ratio: bool = False


SPEEDUP = Quantity(
    metric=RANKED_BY,
    words="Speed-up",
    unit="x",
    factor=1.0,
    band="95 % interval",
    is_ratio=True,
)
LATENCY = Quantity(
    metric="latency_s",
    words="Latency",
    unit="ms",
    factor=1e-3,
    band="95 % interval of the median",
)
MEMORY = Quantity(metric="peak_memory_bytes", words="Peak memory", unit="MiB", factor=2.0**20)


def against_size(
    quantity: Quantity,
    setting: Setting,
    rankings: Sequence[Ranking],
    board: Leaderboard,
    styles: dict[str, Style],
) -> Chart | None:
    """Chart of one quantity in a setting, one line per entry; None with fewer than two sizes.

    None also for ratios to several references, which cannot be compared.
    """
    references = {name for ranking in rankings for name in ranking.references}
    if quantity.is_ratio and len(references) != 1:
        return None
    points: list[Point] = [
        {"name": s.entry, "run": s.entry, "x": ranking.size, "y": float(value) / quantity.factor}
        | _interval(quantity, s)
        | look(styles[s.entry])
        for ranking in sorted(rankings, key=lambda ranking: ranking.size)
        for s in shown(quantity, ranking)
        if (value := s.value(quantity.metric))  # a logarithmic axis has no zero
    ]
    sizes = sorted({point["x"] for point in points})
    if len(sizes) < 2:
        return None
    shape = setting.workload
    along, unit = _SIZES[shape.size_axis]
    entries = sorted({point["name"] for point in points})
    height = height_for(len(entries), 340)
    crossings = _crossings(setting, entries, board) if quantity.is_ratio else []
    values = [end for p in points for end in (p["y"], p.get("low"), p.get("high")) if end]
    words = f"{quantity.words} over {''.join(references)}" if quantity.is_ratio else quantity.words
    x = size_axis(f"{along} ({unit})", sizes)
    y = log_axis(
        words if quantity.is_ratio else f"{words} ({quantity.unit})",
        [*values, *([0.7 * min(values)] if crossings else [])],
        (height, 0),
        by=1.25,
    )
    foot, has_one = y.ends[0], y.ends[0] <= 1 <= y.ends[1]
    title = ", ".join(filter(None, [f"{words} against {along.lower()}", direction_words(shape)]))
    spec = picture(
        lines(),
        x,
        y,
        {
            "rules": [{"y": 1.0, "dash": [1, 0]}] if quantity.is_ratio and has_one else [],
            "bands": [point for point in points if "low" in point],
            "corners": points,
            "points": points,
            "crossings": [
                crossing | {"foot": foot, "above": 1.12 * foot} | look(styles[crossing["name"]])
                for crossing in crossings
            ],
            "labels": end_labels([[p for p in points if p["name"] == e] for e in entries], x, y),
        },
        title,
        [*_notes(quantity, setting, rankings, board, points, bool(crossings))],
        **({"y_labels": "datum.label + 'x'"} if quantity.is_ratio else {}),
    )
    name = f"{quantity.metric.rpartition('_')[0]}-{slug(setting, board)}".replace("_", "-")
    return Chart(name=name, title=f"{title}: {setting_words(setting, board)}", spec=spec)


def _notes(
    quantity: Quantity,
    setting: Setting,
    rankings: Sequence[Ranking],
    board: Leaderboard,
    points: Sequence[Point],
    has_crossings: bool,
) -> Iterator[str]:
    yield setting_words(setting, board)
    if has_crossings:
        yield "Diamonds: from which length on a row is faster"
    if any("low" in point for point in points):
        yield f"Bands: {quantity.band}"
    standings = [standing for ranking in rankings for standing in ranking.standings]
    if missing := sorted({s.entry for s in standings if s.value(quantity.metric) == 0}):
        yield f"Not drawn, being 0: {', '.join(missing)}"
    yield provenance([s.record for s in standings if s.value(quantity.metric)])


def shown(quantity: Quantity, ranking: Ranking) -> Iterator[Standing]:
    """Rows of a picture of a quantity: all, or of a ratio those that may be ranked."""
    for standing in ranking.standings:
        is_ranked = not standing.is_control and may_be_ranked(standing.record)
        if is_ranked or not quantity.is_ratio:
            yield standing


def _crossings(setting: Setting, entries: Collection[str], board: Leaderboard) -> list[Point]:
    """Points of crossovers; one that is too close to the one before has no label."""
    found = sorted(
        (crossing.length, name)
        for name, crossing in crossovers(board).get(setting, {}).items()
        if crossing.length and name in entries
    )
    points: list[Point] = []
    for length, name in found:
        before = [point["x"] for point in points if point["label"]][-1:]
        is_free = not before or length > 1.12 * before[0]
        label = f"{length:,.0f}" if is_free else ""
        points.append({"name": name, "x": length, "y": 1.0, "label": label})
    return points


def _interval(quantity: Quantity, standing: Standing) -> dict[str, float]:
    """Ends of an interval as fields of its point; none with too few rounds."""
    ends = standing.interval(quantity.metric)
    return {n: e / quantity.factor for n, e in zip(("low", "high"), ends or (), strict=False)}
