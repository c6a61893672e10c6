"""Places for names, so that no two overlap. Pixels in, pixels out; nothing of Vega-Lite."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

LINE_HEIGHT = 14
"""Pixels between two labels."""

Box = tuple[float, float, float, float]
"""Left, top, right and bottom."""
Point = tuple[float, float]
Spot = tuple[float, float, str]
"""A label's near end, and the side of its point that it is on."""
Segment = tuple[Point, Point]

_ANGLES = (0, 25, -25, 45, -45, 65, -65, 85, -85)
"""Degrees at which a label may lie from its point, to either side."""


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
    ends: Sequence[Point],
    texts: Sequence[str],
    lines: Sequence[Sequence[Point]],
    height: float,
    others: Sequence[Box] = (),
) -> list[float]:
    """Heights of labels to the right of some points, near them, where no line runs through one.

    Args:
        ends: where each label begins, and the height that it would like.
        texts: what they say.
        lines: corners of each line, from left to right.
        height: of the picture. A label for which nowhere is free stays where it is.
        others: boxes of labels that are there already.
    """
    taken = list(others)
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
    return [(top + bottom) / 2 for _, top, _, bottom in taken[len(others) :]]


def _crosses(line: Sequence[Point], box: Box) -> bool:
    left, top, right, bottom = box
    for (x, y), (next_x, next_y) in itertools.pairwise(line):
        slope = (next_y - y) / (next_x - x or 1)
        inside = (max(x, left), min(next_x, right))
        heights = [y + slope * (at - x) for at in inside]
        if inside[0] < inside[1] and min(heights) < bottom and max(heights) > top:
            return True
    return False


def place_labels(
    places: Sequence[Point], texts: Sequence[str], height: float, others: Sequence[Point] = ()
) -> list[Spot]:
    """For each point the near end of its label and the side it is on, clear of all the others.

    Labels try the near places first, right before left, and then farther away. They may run over
    the right edge, where the picture has room for them, and over no other. A line from a point to
    its label crosses no other line, label or point, where that can be had. Labels keep off
    `others` as well, small points that have none.
    """
    small = [(x - 3, y - 3, x + 3, y + 3) for x, y in others]
    dots = [(x - 6, y - 6, x + 6, y + 6) for x, y in places]
    labels: list[Box] = []
    leaders: list[Segment] = []
    chosen = []
    for index, (place, text) in enumerate(zip(places, texts, strict=True)):
        width = _width(text)
        free = _free_spots(place, width, height, [*labels, *dots, *small])
        nearest = next(free, (*place, "right"))
        in_the_way = [*labels, *dots[:index], *dots[index + 1 :]]
        clear = (
            spot
            for spot in itertools.chain([nearest], free)
            if _is_clear((place, spot[:2]), _box(spot, width), leaders, in_the_way)
        )
        best = next(clear, nearest)
        labels.append(_box(best, width))
        leaders.append((place, best[:2]))
        chosen.append(best)
    return chosen


def _is_clear(leader: Segment, box: Box, leaders: Sequence[Segment], others: Sequence[Box]) -> bool:
    """Whether a new line and its label keep off the lines, labels and points that are there."""
    return not (
        any(_passes(leader, other) for other in others)
        or any(_meet(leader, other) or _passes(other, box) for other in leaders)
    )


def _free_spots(place: Point, width: float, height: float, taken: Sequence[Box]) -> Iterator[Spot]:
    """Near ends of a label around a point, the nearest first, over nothing that is there."""
    x, y = place
    for distance in range(8, int(height), 6):
        for angle in map(math.radians, _ANGLES):
            for sign, side in ((1, "right"), (-1, "left")):
                across = sign * distance * math.cos(angle)
                spot = (x + across, y + distance * math.sin(angle), side)
                box = _box(spot, width)
                is_inside = box[0] >= 0 and box[1] >= 0 and box[3] <= height
                if is_inside and not any(_overlap(box, other) for other in taken):
                    yield spot


def _meet(one: Segment, other: Segment) -> bool:
    """Whether two lines from points to labels cross."""
    (a, b), (c, d) = one, other
    return _turn(a, b, c) != _turn(a, b, d) and _turn(c, d, a) != _turn(c, d, b)


def _turn(a: Point, b: Point, c: Point) -> bool:
    return (b[0] - a[0]) * (c[1] - a[1]) > (b[1] - a[1]) * (c[0] - a[0])


def _passes(line: Segment, box: Box) -> bool:
    """Whether a line runs through a box; seen at points so near each other that none is missed."""
    (x, y), (to_x, to_y) = line
    count = max(2, int(math.dist(*line) / 3))
    return any(
        box[0] < x + (to_x - x) * i / count < box[2]
        and box[1] < y + (to_y - y) * i / count < box[3]
        for i in range(count + 1)
    )


def beside(place: Point, text: str) -> Box:
    """Box of a label that begins at a place."""
    return _box((*place, "right"), _width(text))


def _width(text: str) -> float:
    return 6.4 * len(text) + 4


def _box(spot: Spot, size: float) -> Box:
    left = spot[0] if spot[2] == "right" else spot[0] - size
    return (left, spot[1] - LINE_HEIGHT / 2, left + size, spot[1] + LINE_HEIGHT / 2)


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
