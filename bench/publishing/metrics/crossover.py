"""Sequence length from which an entry is faster than its reference, and why FLOPs differ from it.

Between two measured lengths the logarithm of the ratio within rounds is interpolated over the
logarithm of the length, by the parabola through the nearest third length. The error of this is
estimated by the difference from a straight line, and the interval, a bootstrap over rounds, is
widened by it: lengths that lie closer give a narrower interval.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from bench.core.record import Record, Speed
from bench.core.statistics import (
    CONFIDENCE,
    Interval,
    Ratio,
    median,
    percentiles,
    resampled_medians,
)
from bench.publishing.metrics.marks import may_be_ranked
from bench.publishing.metrics.roofline import bound
from bench.publishing.metrics.scaling import MIN_LENGTHS, scaling
from bench.publishing.metrics.speedup import round_ratios, speedup

SAME_LENGTH = 1.25
"""Two crossovers that differ by no more than this factor need no explanation."""

FIXED_SHARE = 1 / 3
"""Share of a call's time that does not grow with length, from which it is called a fixed cost."""

ELEMENT_FLOPS = 50
"""FLOPs of a product that take about as long as writing one element of an elementwise operation.

For one core with AVX-512: 100 GFLOP/s and two elements per nanosecond.
"""


@dataclass(frozen=True, kw_only=True)
class Crossover:
    """Where an entry overtakes its reference, as sequence length grows.

    Attributes:
        kind: ``at`` a length, faster from there on; ``always`` or ``never`` at the measured
            lengths; ``gives_way``, faster at short lengths only; ``several``, it goes back and
            forth; ``partly``, it is faster wherever the two can be told apart, but after the first
            such length comes one where they cannot; ``unsettled``, they cannot at any length.
        length: the length for ``at``; None if it is only known to lie in `interval`, and for other
            kinds.
        interval: 95 % interval for ``at``; 0 means below the shortest measured length, infinity
            beyond the longest.
        spans: lengths between which it is faster, by the medians; open ends as in `interval`.
        lengths: measured lengths, ascending.
        undecided: those at which the two cannot be told apart.
        flops_kind: ``at``, ``always``, ``never`` or ``gives_way``, by the FLOPs of the mathematics;
            empty if one of the two has no formula or multiplies nothing.
        flops_length: the length for ``at``, by FLOPs.
        reason: why time and FLOPs disagree; empty if they agree.
    """

    kind: str
    length: float | None = None
    interval: Interval | None = None
    spans: tuple[Interval, ...] = ()
    lengths: tuple[int, ...]
    undecided: tuple[int, ...] = ()
    flops_kind: str = ""
    flops_length: float | None = None
    reason: str = ""


def crossover(
    by_length: Mapping[int, Record], references: Mapping[int, Record]
) -> Crossover | None:
    """Where the records of an entry overtake those of its reference.

    Records differ in nothing but their length; those without a ratio, or with a mark that forbids a
    rank, are ignored. FLOPs are compared where there is a record of the reference. None with fewer
    than three lengths, and for the reference itself.
    """
    timed = {
        length: record
        for length, record in sorted(by_length.items())
        if isinstance(record.result, Speed)
        and record.result.reference_key != record.cell.key
        and may_be_ranked(record)
        and speedup(record)
    }
    if len(timed) < MIN_LENGTHS:
        return None
    ratios = [ratio for record in timed.values() if (ratio := speedup(record))]
    lengths = np.array([*timed], dtype=float)
    logs = np.log([ratio.median for ratio in ratios])
    found = Crossover(
        kind=_kind(ratios),
        spans=_spans(lengths, logs),
        lengths=tuple(timed),
        undecided=tuple(n for n, ratio in zip(timed, ratios, strict=True) if not _sign(ratio)),
    )
    if found.kind == "at":
        found = _placed(found, logs, [*timed.values()], ratios)
    return _beside_flops(found, timed, references)


def crossover_words(found: Crossover) -> str:
    """A crossover as text, e.g. ``210 [180, 260]`` or ``not reached up to 4,096``."""
    shortest, longest = found.lengths[0], found.lengths[-1]
    if found.kind == "at":
        return length_words(found)
    if found.kind in ("gives_way", "several"):
        return "faster " + " and ".join(_span_words(span) for span in found.spans)
    if found.kind == "partly":
        return f"faster, but not told apart at {', '.join(f'{n:,}' for n in found.undecided)}"
    return {
        "always": f"always, from {shortest:,}",
        "never": f"not reached up to {longest:,}",
        "unsettled": "not told apart",
    }[found.kind]


def flops_words(found: Crossover) -> str:
    """A crossover by FLOPs as text; empty if they are unknown."""
    if found.flops_kind == "at" and found.flops_length:
        return f"{found.flops_length:,.0f}"
    return {
        "always": f"always, from {found.lengths[0]:,}",
        "never": f"not reached up to {found.lengths[-1]:,}",
        "gives_way": "fewer at short lengths only",
    }.get(found.flops_kind, "")


def length_words(found: Crossover, unit: str = "") -> str:
    """Length of a crossover of kind ``at`` with its interval, e.g. ``210 tokens [180, 260]``."""
    low, high = found.interval or (0.0, math.inf)
    unit = f" {unit}" if unit else ""
    if found.length is None:
        if low > 0:
            return f"beyond {low:,.0f}{unit}"
        return f"below {high:,.0f}{unit}" if math.isfinite(high) else "not told apart"
    lowest = f"{low:,.0f}" if low > 0 else f"below {found.lengths[0]:,}"
    highest = f"{high:,.0f}" if math.isfinite(high) else f"beyond {found.lengths[-1]:,}"
    return f"{found.length:,.0f}{unit} [{lowest}, {highest}]"


def _span_words(span: Interval) -> str:
    low, high = span
    if low == 0:
        return f"up to {high:,.0f}"
    return f"from {low:,.0f}" + (f" to {high:,.0f}" if math.isfinite(high) else " on")


def _kind(ratios: Sequence[Ratio]) -> str:
    """Kind of crossover, by the lengths at which the two can be told apart."""
    signs = [_sign(ratio) for ratio in ratios]
    told = [sign for sign in signs if sign]
    if not told:
        return "unsettled"
    changes = sum(a != b for a, b in pairwise(told))
    if changes > 1:
        return "several"
    if changes == 1:
        return "at" if told[-1] > 0 else "gives_way"
    if told[0] > 0:
        if signs == sorted(signs):  # undecided at the shortest lengths alone, if at any
            return "always" if signs[0] > 0 else "at"
        return "partly"
    return "never" if signs[-1] < 0 else "at"


def _sign(ratio: Ratio) -> int:
    """1 for faster, -1 for slower, 0 if the interval includes 1 or there is none."""
    if ratio.low is None or ratio.high is None:
        return 0
    return (ratio.low > 1) - (ratio.high < 1)


def _spans(lengths: np.ndarray, logs: np.ndarray) -> tuple[Interval, ...]:
    """Ranges of lengths in which the interpolated logarithm of the ratio is above zero."""
    starts = [0.0] if logs[0] > 0 else []
    ends: list[float] = []
    for i in range(len(logs) - 1):
        if (logs[i] > 0) != (logs[i + 1] > 0):
            rising = logs if logs[i + 1] > 0 else -logs
            places = _roots(lengths, rising[:, None], np.array([i]))
            (starts if logs[i + 1] > 0 else ends).append(float(places[0]))
    if logs[-1] > 0:
        ends.append(math.inf)
    return tuple(zip(starts, ends, strict=True))


def _roots(
    lengths: np.ndarray, logs: np.ndarray, i: np.ndarray, *, is_bent: bool = True
) -> np.ndarray:
    """Per column of `logs`, the length between the i-th and the next at which it rises above zero.

    By the parabola through these two lengths and the nearest third, or by a straight line.
    """
    x, columns = np.log(lengths), np.arange(logs.shape[1])
    width = x[i + 1] - x[i]
    below = logs[i, columns]
    slope = (logs[i + 1, columns] - below) / width
    bend = np.zeros_like(slope)
    if is_bent:
        third = _third(x)[i]
        to_third = (logs[third, columns] - below) / (x[third] - x[i])
        bend = (to_third - slope) / (x[third] - x[i + 1])
    start = slope - bend * width  # of the curve at the length i
    root = np.sqrt(np.maximum(start**2 - 4 * bend * below, 0.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        step = np.clip(-2 * below / (start + root), 0.0, width)
    places: np.ndarray = np.exp(x[i] + step)
    return places


def _third(x: np.ndarray) -> np.ndarray:
    """For each gap between consecutive lengths, the index of the nearest length outside of it."""
    last = len(x) - 1
    places = [
        i + 2 if i == 0 or (i + 2 <= last and x[i + 2] - x[i + 1] <= x[i] - x[i - 1]) else i - 1
        for i in range(last)
    ]
    return np.array(places)


def _placed(
    found: Crossover, logs: np.ndarray, records: Sequence[Record], ratios: Sequence[Ratio]
) -> Crossover:
    lengths = np.array(found.lengths, dtype=float)
    length = float(_last_crossings(lengths, logs[:, None])[0])
    resampled = np.stack(
        [
            _resampled(record, ratio, stream)
            for stream, (record, ratio) in enumerate(zip(records, ratios, strict=True))
        ]
    )
    # Ends are resamples themselves, not interpolated between two: some are infinite.
    ordered = np.sort(_last_crossings(lengths, resampled))
    cut = round((1 - CONFIDENCE) / 2 * len(ordered))
    low, high = float(ordered[cut]), float(ordered[-1 - cut])
    if not 0 < length < math.inf:
        return replace(found, interval=(low, high))
    straight = float(_last_crossings(lengths, logs[:, None], is_bent=False)[0])
    bend = max(straight / length, length / straight)
    return replace(found, length=length, interval=(low / bend, high * bend))


def _resampled(record: Record, ratio: Ratio, stream: int) -> np.ndarray:
    """Logarithms of medians of resampled rounds, scaled to the width of the ratio's interval.

    A bootstrap of few rounds is too narrow, so the interval of a ratio, as in tables, is wider.
    """
    values = np.sort([*round_ratios(record).values()])
    medians: np.ndarray = np.log(resampled_medians(values, stream))
    middle = math.log(ratio.median)
    if ratio.low is None or ratio.high is None:
        return medians
    low, high = percentiles(medians)
    widening = [
        (math.log(wide) - middle) / (narrow - middle)
        for wide, narrow in ((ratio.low, low), (ratio.high, high))
        if narrow != middle
    ]
    spread: np.ndarray = middle + (medians - middle) * max([1.0, *widening])
    return spread


def _last_crossings(lengths: np.ndarray, logs: np.ndarray, *, is_bent: bool = True) -> np.ndarray:
    """Per column, the length from which on the logarithm of the ratio stays above zero.

    0 if it is above zero at every length, infinite if it is not at the last one.
    """
    is_slower = logs <= 0
    num_lengths = len(logs)
    # The last slower length; -1 where there is none.
    last = np.where(is_slower.any(axis=0), num_lengths - 1 - is_slower[::-1].argmax(axis=0), -1)
    i = np.clip(last, 0, num_lengths - 2)
    crossings = np.where(last < 0, 0.0, _roots(lengths, logs, i, is_bent=is_bent))
    result: np.ndarray = np.where(last == num_lengths - 1, np.inf, crossings)
    return result


def _beside_flops(
    found: Crossover, timed: Mapping[int, Record], references: Mapping[int, Record]
) -> Crossover:
    pairs = {
        length: (_flops(record), _flops(references[length]))
        for length, record in timed.items()
        if length in references
    }
    if len(pairs) < MIN_LENGTHS or not all(a and b for a, b in pairs.values()):
        return found
    lengths = np.array([*pairs], dtype=float)
    logs = np.log([theirs / mine for mine, theirs in pairs.values()])
    length = float(_last_crossings(lengths, logs[:, None])[0])
    kind = "at"
    if math.isinf(length):
        kind = "gives_way" if logs.max() > 0 else "never"
    elif length == 0:
        kind = "always"
    found = replace(found, flops_kind=kind, flops_length=length if kind == "at" else None)
    return replace(found, reason="" if _agree(found) else _reason(found, timed, references))


def _flops(record: Record) -> int:
    return (record.result.flops or 0) if isinstance(record.result, Speed) else 0


def _agree(found: Crossover) -> bool:
    if found.kind in ("several", "partly", "unsettled"):
        return True  # there is no single length to explain
    if found.kind != found.flops_kind:
        return False
    if found.length is None or found.flops_length is None:
        return True
    low, high = found.interval or (found.length, found.length)
    apart = max(found.length / found.flops_length, found.flops_length / found.length)
    return apart <= SAME_LENGTH or low <= found.flops_length <= high


def _reason(found: Crossover, timed: Mapping[int, Record], references: Mapping[int, Record]) -> str:
    """The first cause that shows at the measured length nearest to the crossover; else the rates.

    The causes are a cost that does not grow with length, a floor set by memory, and elementwise
    work, which FLOPs leave out. The rates at which the two compute are an observation, not a cause.
    """
    shared = [length for length in timed if length in references]
    wanted = found.length or (shared[-1] if found.kind == "never" else shared[0])
    at = min(shared, key=lambda length: abs(math.log(length / wanted)))
    record, reference = timed[at], references[at]
    assert isinstance(record.result, Speed)
    where = f"at {at:,} tokens"
    rates = _rate(record), _rate(reference)
    if rates[0] < rates[1]:
        fit = scaling(timed)
        share = fit.constant_share(at) if fit else 0.0
        if share >= FIXED_SHARE:
            return f"fixed cost: {share:.0%} of its time {where} does not grow with length"
        if bound(record) == "memory":
            return f"bandwidth: moving its bytes sets the floor of its time {where}"
        elements = record.result.elementwise_elements or 0
        if elements * ELEMENT_FLOPS >= _flops(record):
            every = _flops(record) / elements
            return f"feature map: it writes an element for every {every:.0f} FLOPs {where}"
    return f"rate: {rates[0]:.3g} GFLOP/s {where}, the reference {rates[1]:.3g}"


def _rate(record: Record) -> float:
    """GFLOP/s of the mathematics."""
    assert isinstance(record.result, Speed)
    return _flops(record) / (median(record.result.latency_s) or math.inf) / 1e9
