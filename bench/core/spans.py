"""Spans: how far up a ladder of difficulties a model answers nine in ten. Imports no torch.

A span is compared by its height: 0 at the lowest rung, 1 at the highest, linear in its logarithm.
So it is a share, as an accuracy is, and whatever compares accuracies compares spans.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log2

import numpy as np

from bench.core.answers import right_answers
from bench.core.observed import SOLVED, Quality

LEAST_FALL = 1 - SOLVED
"""Smallest fall from one rung to the next that a height's error is computed with.

A curve that crosses the level almost flat would have an error without bounds, though its height
lies between two rungs.
"""


@dataclass(frozen=True, kw_only=True)
class Span:
    """The span of one trained model.

    Attributes:
        rungs: ascending.
        accuracies: share of right answers at each.
        height: 0 at the lowest rung, 1 at the highest; of a censored span the nearer of these, so a
            difference to it is at least as large as it seems.
        dips: rungs that are not solved below one that is.
        values: (examples of all rungs,), of which `height` is the mean: what each example adds to
            it, linearised. Models that answered the same examples are paired by them.
    """

    rungs: tuple[int, ...]
    accuracies: tuple[float, ...]
    height: float
    dips: tuple[int, ...]
    values: np.ndarray


def at_height(height: float, rungs: tuple[int, ...]) -> float:
    """The span of a height, in the unit of the rungs."""
    low, high = log2(rungs[0]), log2(rungs[-1])
    return float(2 ** (low + (high - low) * height))


def height_of(span: float, rungs: tuple[int, ...]) -> float:
    """The height of a span: the inverse of `at_height`."""
    return log2(span / rungs[0]) / log2(rungs[-1] / rungs[0])


def span_words(height: float, rungs: tuple[int, ...]) -> str:
    """A height as its span; at an end of the ladder what is known, as ``over 128``."""
    if height <= 0 or height >= 1:
        return f"over {rungs[-1]}" if height >= 1 else f"under {rungs[0]}"
    span = at_height(height, rungs)
    return f"{span:.1f}" if span < 10 else f"{span:.0f}"


def span_of(result: Quality, level: float = SOLVED) -> Span | None:
    """The first crossing of `level`, interpolated on a logarithmic scale; None without rungs."""
    if not result.rungs or not result.answers:
        return None
    right, start = right_answers(result.answers, result.num_examples), 0
    examples: list[np.ndarray] = []  # of each rung, the share of right answers of each example
    for count, answers in result.rungs.values():
        own = right[start : start + answers]
        examples.append(own.reshape(count, -1).mean(axis=1))
        start += answers
    rungs = tuple(map(int, result.rungs))
    found = tuple(float(own.mean()) for own in examples)
    first = next((place for place, share in enumerate(found) if share < level), len(rungs))
    height, slopes = float(first > 0), dict[int, float]()
    if 0 < first < len(rungs):
        scale = log2(rungs[-1] / rungs[0])
        width = log2(rungs[first] / rungs[first - 1]) / scale
        above, below = found[first - 1], found[first]
        height = log2(rungs[first - 1] / rungs[0]) / scale
        height += width * (above - level) / (above - below)
        fall = max(above - below, LEAST_FALL) ** 2
        slopes = {first - 1: width * (level - below) / fall, first: width * (above - level) / fall}
    total = sum(map(len, examples))
    values = [
        height + slopes.get(place, 0.0) * (own - found[place]) * total / len(own)
        for place, own in enumerate(examples)
    ]
    return Span(
        rungs=rungs,
        accuracies=found,
        height=height,
        dips=tuple(
            rung
            for place, rung in enumerate(rungs)
            if found[place] < level <= max(found[place:], default=0.0)
        ),
        values=np.concatenate(values),
    )
