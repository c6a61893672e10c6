"""Change of entropy over the sweep of query norms, as numbers and as sentences. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from bench.core.grouping import grouped
from bench.core.numbers import RANDOM, Line, Number

CHANGE = "change of entropy"


def medians(lines: Iterable[Line]) -> list[float]:
    """Medians of the norms of queries in trained models, one per row and layer, in rising order."""
    found = (line for line in lines if isinstance(line, Number))
    means = (n.mean for n in found if n.measure == "query norm" and n.inputs != RANDOM)
    return sorted(mean for mean in means if mean is not None)


def changes(lines: Sequence[Line]) -> list[Number]:
    """Change of entropy over two spans of norms, seed by seed.

    The second span is that of query norms in trained models, as far as the sweep reaches; the first
    lies below it. Without trained models there is one span, the whole sweep.
    """
    sweep = [
        (line, norm)
        for line in lines
        if isinstance(line, Number) and (norm := line.norm) is not None
    ]
    norms = sorted({norm for _, norm in sweep})
    by_place = {(number.attention, norm): number for number, norm in sweep}
    return [
        replace(by_place[row, low], measure=CHANGE, at=f"{low:g} to {high:g}", samples=samples)
        for low, high in _spans(norms, medians(lines))
        for row in dict.fromkeys(number.attention for number, _ in sweep)
        if (samples := _differences(by_place.get((row, low)), by_place.get((row, high))))
    ]


def _spans(norms: Sequence[float], own: Sequence[float]) -> list[tuple[float, float]]:
    if len(norms) < 2:
        return []
    inside = [norm for norm in norms[1:-1] if own and norm <= own[0]]
    if not inside:
        return [(norms[0], norms[-1])]
    end = next((norm for norm in norms if norm >= own[-1] and norm > inside[-1]), norms[-1])
    return [(norms[0], inside[-1]), (inside[-1], end)]


def sentences(lines: Sequence[Line]) -> list[str]:
    """One sentence per span, with rows in the order of their change, the largest fall first."""
    own, by_span = medians(lines), grouped(changes(lines), lambda number: number.at)
    said = []
    for index, (span, numbers) in enumerate(by_span.items()):
        known = [(number.mean, number.attention) for number in numbers if number.mean is not None]
        rows = ", ".join(f"{row} {mean:+.3f}" for mean, row in sorted(known))
        where = ""
        if index == 1:
            where = f" (median norms of trained queries here: {own[0]:.1f} to {own[-1]:.1f})"
        said.append(f"From norm {span}{where} entropy / ln N changes by: {rows}.")
    return said


def _differences(low: Number | None, high: Number | None) -> tuple[float | None, ...]:
    if low is None or high is None or len(low.samples) != len(high.samples):
        return ()
    pairs = zip(low.samples, high.samples, strict=True)
    return tuple(None if a is None or b is None else b - a for a, b in pairs)
