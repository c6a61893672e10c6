"""Compare the calls of two source trees in one process."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from bench.core.cell import Cell
from bench.core.clock import now_s
from bench.measuring.device import device_named
from bench.measuring.worker.channel import Channel
from bench.measuring.worker.request import Request, library_at
from bench.measuring.worker.results import PairedRoundsResult


def paired_rounds(request: Request, channel: Channel) -> PairedRoundsResult:
    """Time the same cell of two source trees, in rounds such as base, current, current, base.

    Sends for each round the ratio of the current tree's time to that of the base.
    """
    import random

    import torch

    from bench.measuring.measure.latency import Member, time_round, warm_up
    from bench.measuring.subject import Subject

    cells = [Cell.from_dict(request["base"]), Cell.from_dict(request["current"])]
    clock = device_named(cells[0].device)
    torch.set_num_threads(cells[0].num_threads)
    channel.send(step="build")
    base = Subject(cells[0], library=library_at(request["root"]))
    base.rotate()
    # The same tensors for both, so that neither has the better alignment in memory. A gate that
    # the base does not yet take is given to neither.
    current = Subject(cells[1], like=base)
    base.prepare()
    current.prepare()
    calls = [base.call, repeating(current.call, request["repeat_every"])]
    channel.send(step="warm-up")
    warm = [warm_up(call, clock, request["min_sample_s"]) for call in calls]
    flush = clock.flusher() if cells[1].timed.cache == "cold" else None
    every = request["repeat_every"] or 1
    count = -(-max(m.calls_per_sample for m in warm) // every) * every
    members = [Member(call=m.call, calls_per_sample=count, warmup_s=m.warmup_s) for m in warm]

    coin = random.Random(request["seed"])
    started = now_s()
    num_rounds = 0
    while num_rounds < request["min_rounds"] or now_s() - started < request["budget_s"]:
        first = coin.randrange(2)
        there = time_round(members, [first, 1 - first], clock, flush)
        back = time_round(members, [1 - first, first], clock, flush)
        channel.send(ratio=(there[1] + back[1]) / (there[0] + back[0]))
        num_rounds += 1
        if channel.is_stop_asked():
            break
    return PairedRoundsResult(measured_s=now_s() - started, latency_s=there[1])


def repeating(call: Callable[[], Any], every: int | None) -> Callable[[], Any]:
    """Wrap a call so that every nth runs twice: a slowdown of known size, for self-tests."""
    if every is None:
        return call
    counter = itertools.count(1)

    def slowed() -> Any:
        if next(counter) % every == 0:
            call()
        return call()

    return slowed
