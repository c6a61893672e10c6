"""The exact interval of a share: what 2 alarms in 300 trials say about the next 300."""

from __future__ import annotations

CONFIDENCE = 0.95


def exact_interval(successes: int, trials: int) -> tuple[float, float]:
    """The interval of Clopper and Pearson, Biometrika 26 (1934), 404.

    Its lower end is the share under which so many successes, or more, have a chance of
    (1 - CONFIDENCE) / 2; its upper end the one under which so few, or fewer, have that chance.

    Raises:
        ValueError: fewer trials than 1, or successes than 0, or more successes than trials.
    """
    from scipy import special

    if not 0 <= successes <= trials or trials < 1:
        raise ValueError(f"{successes} successes of {trials} trials: there are no such counts.")
    tail = (1 - CONFIDENCE) / 2
    failures = trials - successes
    # Quantiles of the beta distribution, whose tails are those of the binomial one.
    low = float(special.betaincinv(successes, failures + 1, tail)) if successes else 0.0
    high = float(special.betaincinv(successes + 1, failures, 1 - tail)) if failures else 1.0
    return low, high


def at_most(successes: int, trials: int, share: float) -> float:
    """Chance of so many successes or fewer, in trials that succeed with `share` each."""
    from scipy import special

    return float(special.bdtr(successes, trials, share))
