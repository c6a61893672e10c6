"""Places for names, so that no two overlap. Pixels in, pixels out; nothing of Vega-Lite."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

LINE_HEIGHT = 14
"""Pixels between two labels."""

Box = tuple[float, float, float, float]
"""Left, top, right and bottom."""
Point = tuple[float, float]
Spot = tuple[float, float, str]
"""A label's near end, and the side of its point that it is on."""


def spread(wanted: Sequence[float], *, gap: float, low: float, high: float) -> list[float]:
    """Places at least `gap` apart, in the order given and close to where they were wanted.

    Args:
        wanted: ascending.
        gap: at least this much between two; less where they would not fit otherwise.
        low: where the range to stay in begins.
        high: where it ends.
    """
    gap = min(gap, (high - low) / max(1, len(wanted) - 1))
    # Clusters of touching labels, each centred on what its members wanted.
    clusters: list[list[float]] = []  # [sum of wishes for the first place, number of members]
    for wish in wanted:
        clusters.append([wish, 1])
        while len(clusters) > 1 and _start(clusters[-2]) + gap * clusters[-2][1] > _start(
            clusters[-1]
        ):
            total, count = clusters.pop()
            before = clusters[-1]
            before[0] += total - gap * before[1] * count
            before[1] += count
    places = [_start(c) + gap * i for c in clusters for i in range(int(c[1]))]
    for i in range(len(places)):
        places[i] = max(places[i], low + gap * i)
    for i in reversed(range(len(places))):
        places[i] = min(places[i], high - gap * (len(places) - 1 - i))
    return places


def _start(cluster: list[float]) -> float:
    return cluster[0] / cluster[1]


def off_the_lines(
    ends: Sequence[Point], texts: Sequence[str], lines: Sequence[Sequence[Point]], height: float
) -> list[float]:
    """Heights of labels to the right of some points, near them, where no line runs through one.

    Args:
        ends: where each label begins, and the height that it would like.
        texts: what they say.
        lines: corners of each line, from left to right.
        height: of the picture. A label for which nowhere is free stays where it is.
    """
    taken: list[Box] = []
    for end, text in zip(ends, texts, strict=True):
        steps = range(0, int(height), LINE_HEIGHT // 2)
        spots = [
            (end[0], end[1] + s, "right") for step in steps for s in dict.fromkeys((-step, step))
        ]
        free = (
            spot
            for spot in spots
            if 0 <= spot[1] <= height
            and not any(_crosses(line, _box(spot, _width(text))) for line in lines)
            and not any(_overlap(_box(spot, _width(text)), other) for other in taken)
        )
        taken.append(_box(next(free, spots[0]), _width(text)))
    return [(top + bottom) / 2 for _, top, _, bottom in taken]


def _crosses(line: Sequence[Point], box: Box) -> bool:
    left, top, right, bottom = box
    for (x, y), (next_x, next_y) in itertools.pairwise(line):
        slope = (next_y - y) / (next_x - x)
        inside = (max(x, left), min(next_x, right))
        heights = [y + slope * (at - x) for at in inside]
        if inside[0] < inside[1] and min(heights) < bottom and max(heights) > top:
            return True
    return False


def place_labels(places: Sequence[Point], texts: Sequence[str], height: float) -> list[Spot]:
    """For each point the near end of its label and the side it is on, clear of all the others.

    Labels try the near places first, right before left, and then farther up and down. They may run
    over the right edge, where the picture has room for them, and over no other.
    """
    taken = [(x - 6, y - 6, x + 6, y + 6) for x, y in places]
    chosen = []
    for (x, y), text in zip(places, texts, strict=True):
        size = _width(text)
        spots = [
            (x + sign * (7 + distance / 3), y + dy, side)
            for distance in range(0, int(height), LINE_HEIGHT)
            for dy in sorted({-distance, distance})
            for sign, side in ((1, "right"), (-1, "left"))
        ]
        inside = (
            s
            for s in spots
            if LINE_HEIGHT / 2 <= s[1] <= height - LINE_HEIGHT / 2 and _box(s, size)[0] >= 0
        )
        best = next(
            (s for s in inside if not any(_overlap(_box(s, size), other) for other in taken)),
            spots[0],
        )
        taken.append(_box(best, size))
        chosen.append(best)
    _untangle(places, texts, chosen)
    return chosen


def _untangle(places: Sequence[Point], texts: Sequence[str], chosen: list[Spot]) -> None:
    """Exchange labels where that makes the lines to their points shorter, and both still fit.

    Lines that cross are longer than those that do not, and a reader takes one for the other. The
    sum of lengths falls with each exchange, so this comes to an end.
    """
    points = [(x - 6, y - 6, x + 6, y + 6) for x, y in places]
    goes_on = True
    while goes_on:
        goes_on = False
        for i, j in itertools.combinations(range(len(texts)), 2):
            now = math.dist(places[i], chosen[i][:2]) + math.dist(places[j], chosen[j][:2])
            then = math.dist(places[i], chosen[j][:2]) + math.dist(places[j], chosen[i][:2])
            spots = list(chosen)
            spots[i], spots[j] = chosen[j], chosen[i]
            boxes = [_box(spot, _width(text)) for spot, text in zip(spots, texts, strict=True)]
            if then < now - 1e-6 and all(
                boxes[n][0] >= 0
                and not any(_overlap(boxes[n], other) for other in (*points, *boxes[:n]))
                and not any(_overlap(boxes[n], other) for other in boxes[n + 1 :])
                for n in (i, j)
            ):
                chosen[:] = spots
                goes_on = True


def _width(text: str) -> float:
    return 6.4 * len(text) + 4


def _box(spot: Spot, size: float) -> Box:
    left = spot[0] if spot[2] == "right" else spot[0] - size
    return (left, spot[1] - LINE_HEIGHT / 2, left + size, spot[1] + LINE_HEIGHT / 2)


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
