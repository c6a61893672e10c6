"""Time the members of a block in rounds.

In each round every member runs once, in random order, so whatever slows the machine slows them
alike, and the ratio within a round is stable even where the times are not.
"""

from __future__ import annotations

import gc
import math
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from bench.measuring.device import Clock

_STEADY = 0.1
_MAX_WARMUPS = 10
_WARMUP_BUDGET_S = 1.0


@dataclass(frozen=True, kw_only=True)
class Member:
    """One side of a comparison.

    Attributes:
        calls_per_sample: number of calls in one sample, so that it is long enough for the clock.
        warmup_s: seconds of each call before the rounds.
        prepare, settle: called before and after each sample, outside of the timed span.
    """

    call: Callable[[], object]
    calls_per_sample: int
    warmup_s: tuple[float, ...]
    prepare: Callable[[], object] | None = None
    settle: Callable[[], object] | None = None


def warm_up(call: Callable[[], object], clock: Clock, min_sample_s: float) -> Member:
    """Call until two calls in a row agree within 10 %, ten calls or one second at most."""
    times: list[float] = []
    while len(times) < _MAX_WARMUPS and (len(times) < 2 or sum(times) < _WARMUP_BUDGET_S):
        times.append(clock.time_calls(call, 1))
        if len(times) >= 2 and abs(times[-1] - times[-2]) <= _STEADY * times[-2]:
            break
    fastest = min(times)
    count = math.ceil(min_sample_s / fastest) if fastest > 0 else 1000
    return Member(call=call, calls_per_sample=max(1, min(count, 1000)), warmup_s=tuple(times))


def round_order(num_members: int, seed: int, number: int) -> list[int]:
    """The order of members in one round, the same for the same seed and round."""
    order = list(range(num_members))
    random.Random(seed * 1_000_003 + number).shuffle(order)
    return order


def time_round(
    members: Sequence[Member],
    order: Sequence[int],
    clock: Clock,
    flush: Callable[[], None] | None = None,
) -> list[float]:
    """Seconds per call of each member, in the members' own order, timed in `order`.

    With `flush` each call is timed by itself, and `flush` runs before it, outside of the timed
    span.
    """
    samples = [0.0] * len(members)
    with garbage_collector_off():
        for index in order:
            member = members[index]
            if member.prepare is not None:
                member.prepare()
            if flush is None:
                seconds = clock.time_calls(member.call, member.calls_per_sample)
            else:
                seconds = 0.0
                for _ in range(member.calls_per_sample):
                    flush()
                    seconds += clock.time_calls(member.call, 1)
            if member.settle is not None:
                member.settle()
            samples[index] = seconds / member.calls_per_sample
    return samples


@contextmanager
def garbage_collector_off() -> Iterator[None]:
    """Collect the youngest generation now, and disable the garbage collector inside."""
    gc.collect(0)
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
