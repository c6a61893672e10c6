"""An axis of accuracies that shows the difference between 99 and 99.5 % and has room for guessing.

Errors, not accuracies, differ by factors, so the axis is logarithmic in errors, and linear near 0
to show a score without errors. Its labels are accuracies.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from bench.core.comparison import within_share
from bench.core.statistics import Interval
from bench.publishing.charts.pictures import Point
from bench.publishing.charts.spec import Axis

ERROR_CONSTANT = 0.5
"""Per cent of errors below which the axis becomes linear."""
LABELS = "format(100 - datum.value, '~r')"
"""Vega expression for the accuracy at a tick of an axis that holds errors."""
_TICKS = (
    *(100, 0, 90, 50, 99, 80, 95, 98, 20, 99.5, 70, 97, 60, 40, 85, 10, 30, 96, 99.8, 92, 94, 88),
    *(93, 91, 86, 84, 82, 75, 65, 55, 45, 35, 25, 15, 5, 99.9),
)
"""Candidate ticks in per cent, the most useful first."""
_TICK_GAP = 20.0
"""Smallest distance between two ticks, in pixels."""
_MARGIN = 0.05
"""Margin above and below, as a share of the picture's height."""
_LEAST_SPAN = 0.2
"""Smallest range of an axis, in percentage points."""


def accuracy_axis(accuracies: Iterable[float], height: float, title: str = "") -> Axis:
    """The y axis of a picture that holds these accuracies in per cent, as errors in per cent."""
    known = list(accuracies)
    ends = (100 - min(known), 100 - max(known))
    if ends[0] - ends[1] < _LEAST_SPAN:
        ends = (ends[0] + _LEAST_SPAN / 2, ends[1] - _LEAST_SPAN / 2)
    bare = Axis(
        kind="symlog",
        constant=ERROR_CONSTANT,
        ends=ends,
        pixels=(height, 0),
        title=title,
        labels=LABELS,
    )
    # The margin is the same number of pixels at both ends.
    margin = _MARGIN * height
    axis = replace(bare, ends=(bare.value(height + margin), bare.value(-margin)))
    return replace(axis, ticks=[round(100 - tick, 6) for tick in _ticks(axis)])


def _ticks(axis: Axis) -> list[float]:
    """Accuracies to write at the axis, the highest first."""
    chosen: list[float] = []
    for tick in _TICKS:
        place = axis.pixel(100 - tick)
        is_near = any(abs(place - axis.pixel(100 - one)) < _TICK_GAP for one in chosen)
        if 0 <= place <= axis.pixels[0] and not is_near:
            chosen.append(tick)
    return sorted(chosen, reverse=True)


def scored(accuracy: float, interval: Interval | None, axis: Axis) -> Point:
    """Errors in per cent: of an accuracy, and of the ends of its interval if there is one.

    The interval is clipped to 0 and 1, and to the ends of the axis.
    """
    point: Point = {"y": 100 * (1 - accuracy)}
    if interval:
        low, high = within_share(interval)
        point |= {"low": axis.clipped(100 * (1 - high)), "high": axis.clipped(100 * (1 - low))}
    return point


def seeds(accuracies: Sequence[float], point: Point) -> list[Point]:
    """A dot for each seed at a point, if there are several."""
    if len(accuracies) < 2:
        return []
    return [point | {"y": 100 * (1 - accuracy)} for accuracy in accuracies]
