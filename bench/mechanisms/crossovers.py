"""From which sequence length on an entry is faster than softmax attention."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench.mechanisms.findings import Row
from bench.mechanisms.units import Place


@dataclass(frozen=True, kw_only=True)
class Crossover:
    """The sequence length from which on an entry is faster than softmax attention, forward.

    Attributes:
        place: without its length, which is 0.
        ours, other: by our form and by the other; the shortest length that was measured if it is
            faster there already, and None if it is at none.
    """

    entry: str
    against: str
    place: Place
    ours: float | None
    other: float | None


def crossovers_of(rows: Sequence[Row]) -> tuple[Crossover, ...]:
    """Of each entry forward, between the sequence lengths at which it was measured.

    The other form is not timed beside softmax: its ratio is the quotient of our two.
    """

    def place_of(row: Row) -> tuple[Any, ...]:
        at = row.place
        return (row.entry, row.against, at.scope, at.causal, at.num_threads, at.allocator)

    forward = [r for r in rows if r.place.mode == "forward" and r.softmax_ratio is not None]
    found = []
    for key, group in itertools.groupby(sorted(forward, key=place_of), place_of):
        entry, against, scope, causal, num_threads, allocator = key
        ours: list[tuple[int, float]] = []
        other: list[tuple[int, float]] = []
        for row in sorted(group, key=lambda row: row.place.seq_len):
            assert row.softmax_ratio is not None
            ours.append((row.place.seq_len, row.softmax_ratio.median))
            other.append((row.place.seq_len, row.softmax_ratio.median / row.ratio.median))
        place = Place(
            scope=scope,
            causal=causal,
            seq_len=0,
            mode="forward",
            num_threads=num_threads,
            allocator=allocator,
        )
        found.append(
            Crossover(
                entry=entry,
                against=against,
                place=place,
                ours=crossing(ours),
                other=crossing(other),
            )
        )
    return tuple(found)


def crossing(ratios: Sequence[tuple[int, float]]) -> float | None:
    """Where a ratio falls to 1, on straight lines between the logarithms of lengths and ratios.

    The first length if the ratio is 1 or less there; None if it is so nowhere.
    """
    if ratios and ratios[0][1] <= 1:
        return float(ratios[0][0])
    for (left, above), (right, below) in itertools.pairwise(ratios):
        if above > 1 >= below:
            share = math.log(above) / (math.log(above) - math.log(below))
            return math.exp(math.log(left) + share * (math.log(right) - math.log(left)))
    return None
