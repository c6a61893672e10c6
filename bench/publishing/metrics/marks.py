"""Marks beside a row: facts a reader must know before its numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from bench.core.cell import KernelWorkload
from bench.core.facts import FRESH
from bench.core.observed import CONTROLS
from bench.core.record import Quality, Record, Speed
from bench.core.seed_runs import SEEDS_WHERE_SOME_FAIL, needs_more_seeds
from bench.core.statistics import paired_ratio
from bench.publishing.metrics.roofline import times_faster

NOISY, NOT_SETTLED = "noisy", "not settled"
NEEDS_SEEDS = f"needs {SEEDS_WHERE_SOME_FAIL} seeds"
_LEAKS = "leaks the future"
OWN_THREADS = 1.2
"""CPU seconds per second of wall time from which a one-thread cell has threads of its own.

A single thread cannot use more than one; the rest allows for the resolution of CPU clocks.
"""

IMPOSSIBLE = 0.8
"""Share of the roofline's floor below which a latency is too short for the work."""

_BUSY_ROOFS = 2.0
"""Factor by which ceilings may be too low that were taken on a busy machine."""

OUTSIDE_BYTES, OUTSIDE_SHARE = 30 * 2**20, 0.1
"""Growth of a process above torch's own count that gets a mark: bytes plus a share of the count."""

MOVED = 1.3
"""Factor between a reference's times with plugins and without from which their rounds are marked;
most pairs of processes that run the same code differ by less."""

FRESH_MARGIN = 1.1
"""Smallest factor between row and reference, in a fresh process, that is a verdict."""

LEAKED_BYTES = 2**19
"""Smallest number of bytes kept per call that gets a mark: half a MiB, as the heap reuses pages."""


def marks(*records: Record) -> tuple[str, ...]:
    """Everything amiss or unproven in a row, as short phrases, the worst first; each phrase once.

    Records without a result have none.
    """
    found = [
        mark(record, record.result)
        for kind, worst_first in ((Speed, _OF_SPEED), (Quality, _OF_QUALITY))
        for mark in worst_first
        for record in records
        if isinstance(record.result, kind)
    ]
    if needs_more_seeds(_learned(records)):
        found.insert(0, NEEDS_SEEDS)
    return tuple(dict.fromkeys(phrase for phrase in found if phrase))


def may_be_ranked(*records: Record, within_budget: bool = False) -> bool:
    """Whether a row of one record, or of one for each seed, may be ranked; true without a result.

    No rank is given to a mechanism that computes something else, or does other work, than it
    claims, or that cannot have done the work in the time; nor to one that was timed while others
    kept the machine busy, which can reverse an order; nor to a training run that might have learned
    more with more steps, or whose learning rate was not searched for it, or was the smallest or
    largest of the search. With `within_budget`, results of a fixed number of steps are ranked, so a
    run that still improved at its last step is as well. Nor is a rank given to a row that solves
    nothing, since all of its runs are stuck, or to one that splits and has too few seeds.
    """
    results = _learned(records)
    if needs_more_seeds(results) or (results and all(result.stuck_at for result in results)):
        return False
    return all(_is_in_order(record, within_budget=within_budget) for record in records)


def _learned(records: Sequence[Record]) -> list[Quality]:
    """Results of training runs, without those of controls, which are expected to be stuck."""
    return [
        record.result
        for record in records
        if isinstance(record.result, Quality) and record.cell.mechanism not in CONTROLS
    ]


def _is_in_order(record: Record, *, within_budget: bool) -> bool:
    result = record.result
    if result is None:
        return True
    if isinstance(result, Quality):
        is_short = not result.has_settled and not within_budget
        return not (result.leaks_future or is_short or _untuned(record, result))
    is_other = result.leaks_future or result.flops_off is not None
    is_off = _moved(record, result) or result.is_noisy
    return not (is_other or _impossible(record, result) or is_off)


def _moved(record: Record, speed: Speed) -> str:
    """Whether a plugin has changed its process for all that were timed in it."""
    times = speed.load.get(FRESH, 1.0)
    is_alike = 1 / MOVED < times < MOVED
    return "" if is_alike else f"process changed by a plugin: reference takes {_short(times)}x"


def _impossible(record: Record, speed: Speed) -> str:
    times, is_busy = times_faster(record)
    if times * IMPOSSIBLE <= (_BUSY_ROOFS if is_busy else 1.0):
        return ""
    return f"impossible: {_short(times)}x faster than the machine's roofline"


def _fresh(record: Record, speed: Speed) -> str:
    """The speed-up in a fresh process, if it reverses the verdict of the rounds."""
    fresh = speed.fresh_speedup
    if fresh is None or 1 / FRESH_MARGIN < fresh < FRESH_MARGIN:
        return ""
    ratio = paired_ratio(*speed.paired)
    if ratio is None or ratio.low is None or ratio.high is None:
        return ""
    is_reversed = ratio.low > 1 if fresh < 1 else ratio.high < 1
    return f"{_short(fresh)}x in a fresh process" if is_reversed else ""


def _outside(record: Record, speed: Speed) -> str:
    """Memory that torch's count does not include; known on a CPU only."""
    if speed.peak_rss_bytes is None or speed.peak_memory_bytes is None:
        return ""
    outside = speed.peak_rss_bytes - speed.peak_memory_bytes
    if outside <= OUTSIDE_BYTES + OUTSIDE_SHARE * speed.peak_memory_bytes:
        return ""
    return f"memory outside torch: {_short(outside / 2**20)} MiB"


def _kept(record: Record, speed: Speed) -> str:
    kept = speed.leaked_bytes or 0
    return f"leaks {_short(kept / 2**20)} MiB a call" if kept >= LEAKED_BYTES else ""


def _stuck(record: Record, quality: Quality) -> str:
    """The level near which a run is stuck; empty for a control, which is expected there."""
    level = "" if record.cell.mechanism in CONTROLS else quality.stuck_at
    return f"stuck near {level}" if level else ""


def _untuned(record: Record, quality: Quality) -> str:
    """Whether no rate was searched for this row, or the best one was the smallest or largest."""
    work = record.cell.task
    if record.cell.mechanism in CONTROLS:
        return ""
    if work.shared_rate is None:
        return "untuned"
    return "rate at the edge of the search" if work.is_at_edge else ""


def _extent(record: Record, speed: Speed) -> str:
    """The part of the output that was checked, if not all rows at the timed length."""
    said = []
    work, length = record.cell.workload, speed.checked_len
    if isinstance(work, KernelWorkload) and length is not None and length < work.seq_len:
        said.append(f"at {length:,} of {work.seq_len:,} tokens")
    if speed.checked_share < 1:
        said.append(f"in {_short(100 * speed.checked_share)} % of rows")
    return f"checked {', '.join(said)}" if said else ""


def _threads(record: Record, speed: Speed) -> str:
    busy = speed.cpu_per_wall
    if record.cell.num_threads > 1 or busy is None or busy < OWN_THREADS:
        return ""
    return f"own threads: {busy:.1f} CPU seconds a second"


_OF_SPEED: tuple[Callable[[Record, Any], str], ...] = (
    _impossible,
    lambda _, speed: _LEAKS if speed.leaks_future else "",
    lambda _, s: "" if s.flops_off is None else f"FLOPs {_short(s.flops_off)}x off",
    _moved,
    lambda _, speed: NOISY if speed.is_noisy else "",
    lambda _, speed: "output is a view of an input" if speed.is_view else "",
    lambda _, speed: "checked against itself" if speed.oracle == "itself" else "",
    _extent,
    _threads,
    _fresh,
    _outside,
    _kept,
    lambda _, speed: "claims untested" if speed.is_foreign else "",
)
_OF_QUALITY: tuple[Callable[[Record, Any], str], ...] = (
    lambda _, quality: _LEAKS if quality.leaks_future else "",
    _stuck,
    lambda _, quality: "" if quality.has_settled else NOT_SETTLED,
    _untuned,
    lambda _, quality: "collapsed" if quality.collapsed else "",
)


MEANINGS = {
    "impossible": "The time is too short for the work on this machine; the row is not ranked.",
    _LEAKS: "A causal form changed with later tokens; the row is not ranked.",
    "FLOPs … off": "A counter contradicts the FLOP formula by this factor; the row is not ranked.",
    "output is a view": "The output shares memory with an input, so part of the work was saved.",
    "checked against itself": "There is no slow form to check the output against.",
    "checked at, checked in": "Only this length, or this share of the rows, was checked.",
    "own threads": "It used more processors than the one thread that it was given.",
    "memory outside torch": "The process grew by this much beyond what torch allocated.",
    "leaks … a call": "The process keeps this much memory after each call.",
    "claims untested": "The row is a plugin's, whose claims this project's tests do not cover.",
    "process changed by": "The reference took this many times as long as in a process of its own.",
    NOISY: "Others kept the machine busy, also when the row was timed again.",
    "stuck at": "The training run stayed at chance or at a partial solution; it is not ranked.",
    NOT_SETTLED: "The run still improved at its last step.",
    "… in a fresh process": "In a process without larger calls before, the verdict is reversed.",
    "untuned": "No learning rate was searched for this row, so it is not ranked.",
    "rate at the edge": "The best learning rate was the smallest or largest of the search.",
    "collapsed": "In some layer nearly all features of the keys lay at the floor added to them.",
}
"""A sentence per mark, by how the mark begins."""


def _short(value: float) -> str:
    """Two significant digits, or all digits before the decimal point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}"
