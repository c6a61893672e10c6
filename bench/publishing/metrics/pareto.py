"""Pareto fronts: rows worth considering where two things are wanted at once."""

from __future__ import annotations

from collections.abc import Mapping


def pareto_front(points: Mapping[str, tuple[float, float]]) -> tuple[str, ...]:
    """Names of the points that no other one beats, cheapest first.

    A point is beaten by one that costs no more and scores no less, and is better in one of both.

    Args:
        points: by name, a cost and a score; less and more of them is better.

    >>> pareto_front({"cheap": (1, 0.5), "good": (3, 0.9), "worse": (4, 0.8)})
    ('cheap', 'good')
    """
    front: list[str] = []
    for name in sorted(points, key=lambda name: (points[name][0], -points[name][1], name)):
        cost, score = points[name]
        best = points[front[-1]] if front else None
        # An equal twin is beaten by nobody.
        if best is None or score > best[1] or (cost, score) == best:
            front.append(name)
    return tuple(front)
