"""Positions of labels without overlaps. Pixels in, pixels out; independent of Vega-Lite."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

LINE_HEIGHT = 14
"""Height of a label in pixels."""

Box = tuple[float, float, float, float]
"""Left, top, right and bottom."""
Point = tuple[float, float]
Spot = tuple[float, float, str]
"""A label's near end, and the side of its point that it is on."""
Segment = tuple[Point, Point]

_ANGLES = (0, 25, -25, 45, -45, 65, -65, 85, -85)
"""Degrees at which a label may lie from its point, to either side."""


def spread(wanted: Sequence[float], *, gap: float, low: float, high: float) -> list[float]:
    """Positions at least `gap` apart, in the given order and close to the wanted ones.

    Wanted positions are ascending; the gap is smaller if they would not fit otherwise.
    """
    gap = min(gap, (high - low) / max(1, len(wanted) - 1))
    # Clusters of touching labels, each centred on the wanted positions of its members.
    clusters: list[list[float]] = []  # [sum of wanted first positions, number of members]
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
    """Vertical positions of labels to the right of some points, close to them and clear of lines.

    `lines` have corners from left to right; `others` are boxes of labels placed already. A label
    without a free position gets the wanted one.
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
    """For each point the near end of its label and the side that it is on, without overlaps.

    Near positions are tried first, right before left. Labels may run over the right edge, where the
    picture has room for them, and over no other. If possible, a leader line from a point to its
    label crosses no other leader line, label or point. Labels also keep clear of `others`, small
    points without labels.
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
    """Whether a new leader line and its label keep clear of other lines, labels and points."""
    return not (
        any(_passes(leader, other) for other in others)
        or any(_meet(leader, other) or _passes(other, box) for other in leaders)
    )


def _free_spots(place: Point, width: float, height: float, taken: Sequence[Box]) -> Iterator[Spot]:
    """Near ends of a label at free positions around a point, the nearest first."""
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
    """Whether two leader lines cross."""
    (a, b), (c, d) = one, other
    return _turn(a, b, c) != _turn(a, b, d) and _turn(c, d, a) != _turn(c, d, b)


def _turn(a: Point, b: Point, c: Point) -> bool:
    return (b[0] - a[0]) * (c[1] - a[1]) > (b[1] - a[1]) * (c[0] - a[0])


def _passes(line: Segment, box: Box) -> bool:
    """Whether a line runs through a box, tested at points about 3 pixels apart."""
    (x, y), (to_x, to_y) = line
    count = max(2, int(math.dist(*line) / 3))
    return any(
        box[0] < x + (to_x - x) * i / count < box[2]
        and box[1] < y + (to_y - y) * i / count < box[3]
        for i in range(count + 1)
    )


def beside(place: Point, text: str) -> Box:
    """Box of a label that begins at a point."""
    return _box((*place, "right"), _width(text))


def _width(text: str) -> float:
    return 6.4 * len(text) + 4


def _box(spot: Spot, size: float) -> Box:
    left = spot[0] if spot[2] == "right" else spot[0] - size
    return (left, spot[1] - LINE_HEIGHT / 2, left + size, spot[1] + LINE_HEIGHT / 2)


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
