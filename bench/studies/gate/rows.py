"""Rows of a comparison, one per number of a cell: its verdict, and what it rests on.

A ratio is current time / base time, so above 1 is slower. Both sides are timed in one process,
because two processes running the same code can differ by 10 to 20 % for as long as they live; the
rounds are spread over several fresh forks, because what is left of that difference is shared by
all rounds of one fork. The bootstrap therefore draws forks first, then rounds within them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, NamedTuple

import numpy as np

from bench.core.cell import Cell
from bench.publishing.metrics import find_metric

BOOTSTRAP_SEED = 20_190_226
FAMILY_ERROR = 0.01
"""Chance that a comparison in which nothing changed holds a false SLOWER, over all its cells."""

_MIN_RESAMPLES = 4000
_BEYOND = 20
"""Resamples expected beyond each end of an interval, so that no end rests on one draw."""

_MAX_RESAMPLES = 100_000


class GateVerdict(StrEnum):
    """Verdict of a comparison on one number of one cell."""

    FASTER = "FASTER"
    SAME = "SAME"
    SLOWER = "SLOWER"
    UNSURE = "UNSURE"
    """The interval contains the threshold, and the budget is spent: listed, no failure."""

    LESS = "LESS"
    MORE = "MORE"
    """A number without noise grew: a failure, unless it was accepted."""

    BROKEN = "BROKEN"
    """The base could run it, and this tree cannot."""

    ACCEPTED = "ACCEPTED"
    NEW = "new"
    GONE = "gone"
    """Stored with numbers on the base's side only: listed, no failure."""

    INCOMPARABLE = "incomparable"


FAILURES = (GateVerdict.SLOWER, GateVerdict.MORE, GateVerdict.BROKEN)


class Interval(NamedTuple):
    """A ratio and its confidence interval."""

    median: float
    low: float
    high: float


def confidence_tail(num_cells: int, family_error: float = FAMILY_ERROR) -> float:
    """The tail left out on each side of a cell's interval: Bonferroni over the cells."""
    return family_error / num_cells


def ratio_interval(forks: Sequence[Sequence[float]], tail: float) -> Interval:
    """The median ratio over all rounds, with an interval that leaves `tail` on each side.

    Args:
        forks: per fork the ratios of its rounds, each above zero.
        tail: share of resamples beyond each end.

    Returns:
        A percentile interval of a two-stage bootstrap (forks, then rounds within a fork; Davison
        and Hinkley, 1997, §3.8). With few forks its ends cannot pass those of the most extreme
        fork: one fork that is different decides nothing, all of them must agree.
    """
    rounds = min(len(fork) for fork in forks)
    table = np.array([fork[:rounds] for fork in forks])  # (forks, rounds)
    num_resamples = min(max(_MIN_RESAMPLES, math.ceil(_BEYOND / tail)), _MAX_RESAMPLES)
    draw = np.random.default_rng(BOOTSTRAP_SEED)
    num_forks = len(table)
    medians = []
    for _ in range(0, num_resamples, 2000):  # in parts, to stay small in memory
        which = draw.integers(0, num_forks, size=(2000, num_forks, 1))
        when = draw.integers(0, rounds, size=(2000, num_forks, rounds))
        medians.append(np.median(table[which, when].reshape(2000, -1), axis=1))
    low, high = np.quantile(np.concatenate(medians)[:num_resamples], [tail, 1 - tail])
    return Interval(median=float(np.median(table)), low=float(low), high=float(high))


def judge(interval: Interval, threshold: float) -> GateVerdict:
    """SLOWER only if the whole interval lies beyond the threshold; SAME only if none of it does."""
    if interval.low > 1 + threshold:
        return GateVerdict.SLOWER
    if interval.high < 1 / (1 + threshold):
        return GateVerdict.FASTER
    if interval.high <= 1 + threshold and interval.low >= 1 / (1 + threshold):
        return GateVerdict.SAME
    return GateVerdict.UNSURE


def judge_exact(base: float, current: float, *, higher_is_worse: bool) -> GateVerdict:
    """Judge a number without noise: any change in the bad direction is MORE, in the other LESS."""
    if base == current:
        return GateVerdict.SAME
    return GateVerdict.MORE if (current > base) == higher_is_worse else GateVerdict.LESS


LATENCY = "latency"
"""The channel of times; every other channel is the name of a number without noise."""

ACCURACY = "accuracy"
"""The channel of training runs."""

LOSS = "loss"
"""The channel of a training run whose score is in a unit, of which less is better."""


def channel_of(cell: Cell) -> str:
    """The channel under which a cell as a whole is new, gone, broken or incomparable."""
    return ACCURACY if cell.is_task else LATENCY


@dataclass(frozen=True, kw_only=True)
class GateRow:
    """One number of one cell, compared.

    Attributes:
        cell: in words, such as ``nala seq_len=1024 float32 forward cpu``.
        key: the cell's key.
        channel: ``latency``, or the name of a number without noise.
        ratio: current / base; above 1 is slower, or more.
        low, high: the ratio's interval; the ratio itself where there is no noise.
        base, current: the two numbers in base units, where they mean something by themselves.
        reason: why there is no ratio, or why a growth was accepted.
    """

    entry: str
    mechanism: str
    cell: str
    key: str
    channel: str
    verdict: GateVerdict
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    base: float | None = None
    current: float | None = None
    reason: str | None = None

    @classmethod
    def timed(
        cls, cell: Cell, verdict: GateVerdict, ratio: Interval | None, **more: Any
    ) -> GateRow:
        """A row of a cell's times, with their ratio and its interval."""
        own = {"ratio": ratio.median, "low": ratio.low, "high": ratio.high} if ratio else {}
        return cls.of(cell, LATENCY, verdict, **own, **more)

    @classmethod
    def of(cls, cell: Cell, channel: str, verdict: GateVerdict, **numbers: Any) -> GateRow:
        """A row under a cell's names; the other fields by keyword."""
        return cls(
            entry=cell.entry,
            mechanism=cell.mechanism,
            cell=cell.describe(),
            key=cell.key,
            channel=channel,
            verdict=verdict,
            **numbers,
        )

    def to_dict(self) -> dict[str, Any]:
        """As written to regress.json."""
        return asdict(self) | {"verdict": str(self.verdict)}


def exit_code(rows: Sequence[GateRow]) -> int:
    """The exit code: 1 if any row is a failure, else 0."""
    return int(any(row.verdict in FAILURES for row in rows))


EXACT = (
    "flops",
    "executed_flops",
    "peak_memory_bytes",
    "saved_for_backward_bytes",
    "num_operators",
    ACCURACY,
)
"""Numbers that are equal in two runs of the same code."""

HIGHER_IS_WORSE = {name: find_metric(name).better == "lower" for name in EXACT} | {LOSS: True}


def by_channel(observed: Mapping[str, Any]) -> dict[str, int | float]:
    """The numbers without noise of a result by channel; a score in a unit is a loss.

    Args:
        observed: the fields of a result by name, among them ``unit`` if it has one.
    """
    found = {name: observed.get(name) for name in EXACT}
    if observed.get("unit"):
        found[LOSS] = found.pop(ACCURACY)
    return {channel: value for channel, value in found.items() if value is not None}


def exact_rows(cell: Cell, base: Mapping[str, Any], current: Mapping[str, Any]) -> list[GateRow]:
    """A row for each number that at least one side has."""
    rows = []
    for channel, higher_is_worse in HIGHER_IS_WORSE.items():
        before, after = base.get(channel), current.get(channel)
        if before is None and after is None:
            continue
        if before is None or after is None:
            side = "the base" if before is None else "the current side"
            reason = f"{side} has no such number"
            rows.append(GateRow.of(cell, channel, GateVerdict.INCOMPARABLE, reason=reason))
            continue
        ratio = after / before if before else (1.0 if after == before else math.inf)
        ratio = ratio if math.isfinite(ratio) else None
        verdict = judge_exact(before, after, higher_is_worse=higher_is_worse)
        numbers = {"ratio": ratio, "low": ratio, "high": ratio, "base": before, "current": after}
        rows.append(GateRow.of(cell, channel, verdict, **numbers))
    return rows
