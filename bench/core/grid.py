"""Learning rates to try, and the choice of the best one. Numbers only."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

GRIDS = {
    "usual": (1e-3, 3e-3, 1e-2, 3e-2),
    "zoology": (1e-4, 4.64e-4, 2.15e-3, 1e-2),  # logspace(-4, -2, 4): Arora et al., 2023
    "based": (1e-3, 3.16e-3, 1e-2, 3.16e-2),  # logspace(-3, -1.5, 4): Arora et al., 2024
    "mad": (1e-4, 5e-4, 1e-3),  # Poli et al., 2024; their weight decays are not searched here
}
"""Grids of rates by name: our own, and those that papers searched."""

CLEARLY = 0.01
"""Smallest lead in score with which a rate at the edge of a grid beats those within."""

MAX_WIDENINGS = 2
"""Largest number of times that a grid is widened at the edge where its best rate lies."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """Result of a run at one rate.

    Attributes:
        score: on validation examples at the end; None if the run has none, as one that diverged.
        steps_to_90: as in `bench.core.record.Quality`.
        is_stuck: whether that score is at chance or at a partial solution.
    """

    score: float | None
    steps_to_90: int | None = None
    is_stuck: bool = False


@dataclass(frozen=True, kw_only=True)
class Best:
    """The best rate; None if no run had a score.

    Attributes:
        beyond: the rate to try next, because the best one lies at an edge of those tried.
    """

    rate: float | None
    beyond: float | None = None


def best_of(runs: Mapping[float, Trained], *, better: str) -> Best:
    """The rate with the best score; among equal scores, the one that learned sooner.

    A rate at an edge must lead by `CLEARLY`: where nothing learns, or everything does, widening the
    grid is pointless.
    """
    sign = 1 if better == "higher" else -1
    value = {r: sign * t.score for r, t in runs.items() if t.score is not None}
    if not value:
        return Best(rate=None)
    rates = sorted(runs)
    order = sorted(value, key=lambda r: (-value[r], runs[r].steps_to_90 or math.inf, r))
    inner = [rate for rate in order if rate not in (rates[0], rates[-1])]
    if order[0] in inner or len(rates) < 3:
        return Best(rate=order[0])
    if inner and value[order[0]] - value[inner[0]] < CLEARLY:
        return Best(rate=inner[0])
    return Best(rate=order[0], beyond=next_rate(order[0], up=order[0] == rates[-1]))


def found_nothing(runs: Iterable[Trained]) -> bool:
    """Whether all runs with a score are stuck, so that the best rate among them is an accident."""
    ended = [run.is_stuck for run in runs if run.score is not None]
    return bool(ended) and all(ended)


def next_rate(rate: float, *, up: bool) -> float:
    """The next of 1, 3, 10, 30, ... times a power of ten, at least a factor of 2 away."""
    power = math.floor(math.log10(rate))
    ladder = [float(f"{m}e{e}") for e in range(power - 1, power + 3) for m in (1, 3)]
    if up:
        return min(r for r in ladder if r >= 2 * rate)
    return max(r for r in ladder if r <= rate / 2)
