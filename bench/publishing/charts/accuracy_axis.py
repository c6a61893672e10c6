"""An axis of accuracies that shows the difference between 99 and 99.5 % and has room for guessing.

Errors, not accuracies, are what differs by factors, so their logarithm is drawn, with a constant
that leaves a place for no errors at all. The labels stay accuracies.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench.core.comparison import within_share
from bench.core.statistics import Interval
from bench.publishing.charts.spec import Point, Spec

ERROR_CONSTANT = 0.5
"""Per cent of errors below which the axis becomes linear."""
_TICKS = (
    *(100, 0, 90, 50, 99, 80, 95, 98, 20, 99.5, 70, 97, 60, 40, 85, 10, 30, 96, 99.8, 92, 94, 88),
    *(93, 91, 86, 84, 82, 75, 65, 55, 45, 35, 25, 15, 5, 99.9),
)
"""Per cent, those first that a reader looks for first."""
_TICK_GAP = 20.0
"""Pixels between two ticks."""
_MARGIN = 0.05
"""Margin above and below, as a share of the picture's height."""


@dataclass(frozen=True, kw_only=True)
class AccuracyAxis:
    """Heights of accuracies, all in per cent, in a picture of `height` pixels."""

    lowest: float
    highest: float
    height: float

    def place(self, accuracy: float) -> float:
        """Pixels from the top."""
        top, bottom = self._ends()
        return self.height * (_stretched(100 - accuracy) - top) / (bottom - top)

    def at(self, pixels: float) -> float:
        """The inverse of `place`; a little over 100 in the margin above it."""
        top, bottom = self._ends()
        stretched = top + pixels / self.height * (bottom - top)
        return 100 - math.copysign(ERROR_CONSTANT * math.expm1(abs(stretched)), stretched)

    def _ends(self) -> tuple[float, float]:
        top, bottom = _stretched(100 - self.highest), _stretched(100 - self.lowest)
        margin = _MARGIN * max(bottom - top, 0.2)
        return top - margin, bottom + margin

    def within(self, point: Point) -> Point:
        """A point whose interval of errors, if it has one, ends where the picture does."""
        ends = (100 - self.at(0), 100 - self.at(self.height))
        names = [name for name in ("error_low", "error_high") if name in point]
        return point | {name: min(max(point[name], ends[0]), ends[1]) for name in names}

    @property
    def ticks(self) -> list[float]:
        """Accuracies to write at the axis, the highest first."""
        chosen: list[float] = []
        for tick in _TICKS:
            is_near = any(abs(self.place(tick) - self.place(one)) < _TICK_GAP for one in chosen)
            if 0 <= self.place(tick) <= self.height and not is_near:
                chosen.append(tick)
        return sorted(chosen, reverse=True)

    def channel(self, field: str, title: str) -> Spec:
        """The y channel for a field that holds errors in per cent, 100 minus the accuracy."""
        return {
            "field": field,
            "type": "quantitative",
            "scale": {
                "type": "symlog",
                "constant": ERROR_CONSTANT,
                "domain": [100 - self.at(self.height), 100 - self.at(0)],
                "nice": False,
                "zero": False,
            },
            "axis": {
                "title": title,
                "values": [round(100 - tick, 6) for tick in self.ticks],
                "tickCount": len(self.ticks),  # Vega leaves out every second one of more
                "labelOverlap": False,
                "labelExpr": "format(100 - datum.value, '~r')",
            },
        }


def accuracy_axis(accuracies: Iterable[float], height: float) -> AccuracyAxis:
    """The axis that holds all these, in per cent."""
    known = list(accuracies)
    return AccuracyAxis(lowest=min(known), highest=max(known), height=height)


def scored(accuracies: Sequence[float], interval: Interval | None) -> Point:
    """The mean of seeds, what it and each of them miss, and its interval if there is one.

    Args:
        accuracies: one a seed.
        interval: of their mean; where it knows no bounds, it is drawn within those of a share.
    """
    mean = sum(accuracies) / len(accuracies)
    point: Point = {
        "value": 100 * mean,
        "error": 100 * (1 - mean),
        "seeds": [100 * (1 - accuracy) for accuracy in accuracies],
    }
    if interval:
        low, high = within_share(interval)
        point |= {"error_low": 100 * (1 - high), "error_high": 100 * (1 - low)}
    return point


def _stretched(error: float) -> float:
    """As Vega's symlog scale has it."""
    return math.copysign(math.log1p(abs(error) / ERROR_CONSTANT), error)
