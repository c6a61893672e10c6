"""Pareto fronts of cost and score."""

from __future__ import annotations

from collections.abc import Mapping


def pareto_front(points: Mapping[str, tuple[float, float]]) -> tuple[str, ...]:
    """Names of the points that no other one beats, cheapest first.

    A point is beaten by one that costs no more, scores no less, and is better in at least one.

    Args:
        points: cost and score by name; a lower cost and a higher score are better.

    >>> pareto_front({"cheap": (1, 0.5), "good": (3, 0.9), "worse": (4, 0.8)})
    ('cheap', 'good')
    """
    front: list[str] = []
    for name in sorted(points, key=lambda name: (points[name][0], -points[name][1], name)):
        cost, score = points[name]
        best = points[front[-1]] if front else None
        # Of equal points none beats another.
        if best is None or score > best[1] or (cost, score) == best:
            front.append(name)
    return tuple(front)
