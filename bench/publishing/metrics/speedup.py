"""How many times faster than the reference, timed in the same rounds.

The reference is softmax unless the sweep's `reference` names another entry; `table.csv` has its
label in the column ``reference``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from bench.core.record import REFERENCE, Record, Speed
from bench.core.statistics import Interval, Ratio, independent_ratios, paired_ratio
from bench.publishing.metrics import IntervalFunction, register_metric

# Three metrics, ranks and crossovers use the same bootstrap. A full cache takes 40 MB.
_ratio = lru_cache(maxsize=2**17)(paired_ratio)


def speedup(record: Record) -> Ratio | None:
    """The reference's time over the entry's; None if the cell or its reference was not timed."""
    if not isinstance(record.result, Speed):
        return None
    return _ratio(*record.result.paired)


def round_ratios(record: Record) -> dict[int, float]:
    """Ratios by round, or by process if there were several; `speedup` is their median."""
    if not isinstance(record.result, Speed):
        return {}
    return independent_ratios(*record.result.paired)


def ratio_between(record: Record, other: Record) -> Ratio | None:
    """How many times faster than another record's entry; None unless the same rounds timed both."""
    mine, theirs = record.result, other.result
    if not isinstance(mine, Speed) or not isinstance(theirs, Speed):
        return None
    if not mine.rounds_key or mine.rounds_key != theirs.rounds_key:
        return None
    return _ratio(mine.latency_s, mine.rounds, theirs.latency_s, theirs.rounds, mine.processes)


def _over_softmax(record: Record) -> Ratio | None:
    """`speedup` if the reference is softmax; else None."""
    is_other = isinstance(record.result, Speed) and record.result.reference != REFERENCE
    return None if is_other else speedup(record)


def _interval_of(of: Callable[[Record], Ratio | None]) -> IntervalFunction:
    def interval(record: Record) -> Interval | None:
        ratio = of(record)
        if ratio is None or ratio.low is None or ratio.high is None:
            return None
        return ratio.low, ratio.high

    return interval


@register_metric("speedup_over", better="higher", interval=_interval_of(speedup))
def speedup_over(record: Record) -> float | None:
    """Median over rounds of the reference's seconds / the entry's seconds within a round."""
    ratio = speedup(record)
    return ratio.median if ratio else None


@register_metric("speedup_over_softmax", better="higher", interval=_interval_of(_over_softmax))
def speedup_over_softmax(record: Record) -> float | None:
    """`speedup_over` where the reference is softmax, as it is by default; else None."""
    ratio = _over_softmax(record)
    return ratio.median if ratio else None


@register_metric("num_rounds")
def num_rounds(record: Record) -> int | None:
    """Rounds in which both the entry and its reference were timed."""
    if not isinstance(record.result, Speed):
        return None
    ratio = speedup(record)
    return ratio.num_rounds if ratio else 0
