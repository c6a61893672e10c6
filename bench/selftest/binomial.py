"""The exact interval of a share: what 2 alarms in 300 trials say about the next 300."""

from __future__ import annotations

import math
from collections.abc import Callable

CONFIDENCE = 0.95
_HALVINGS = 60
"""A bisection of the unit interval reaches the precision of a double after 53."""


def exact_interval(successes: int, trials: int) -> tuple[float, float]:
    """The interval of Clopper and Pearson, Biometrika 26 (1934), 404.

    Its lower end is the share under which so many successes, or more, have a chance of
    (1 - CONFIDENCE) / 2; its upper end the one under which so few, or fewer, have that chance.

    Raises:
        ValueError: fewer trials than 1, or successes than 0, or more successes than trials.
    """
    if not 0 <= successes <= trials or trials < 1:
        raise ValueError(f"{successes} successes of {trials} trials: there are no such counts.")
    tail = (1 - CONFIDENCE) / 2
    low, high = 0.0, 1.0
    if successes > 0:
        low = _share_where(lambda share: 1 - at_most(successes - 1, trials, share) <= tail)
    if successes < trials:
        high = _share_where(lambda share: at_most(successes, trials, share) > tail)
    return low, high


def at_most(successes: int, trials: int, share: float) -> float:
    """Chance of so many successes or fewer, in trials that succeed with `share` each."""
    if share <= 0 or share >= 1:
        return 1.0 if share <= 0 or successes >= trials else 0.0
    terms = (
        math.log(math.comb(trials, k)) + k * math.log(share) + (trials - k) * math.log1p(-share)
        for k in range(successes + 1)
    )
    return min(1.0, math.fsum(math.exp(term) for term in terms))


def _share_where(is_below: Callable[[float], bool]) -> float:
    """The share at which a condition that holds for small ones ceases to."""
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if is_below(middle) else (low, middle)
    return (low + high) / 2
