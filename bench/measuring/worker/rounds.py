"""Time the members of a block in turn, so that whatever slows the machine slows them alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from bench.core.cell import Cell
from bench.core.clock import now_s
from bench.measuring.device import Device, device_named
from bench.measuring.measure.stopping import Stopping
from bench.measuring.worker.channel import Channel
from bench.measuring.worker.outcome import refuse
from bench.measuring.worker.request import Request
from bench.measuring.worker.results import (
    ROUNDS_BEGIN,
    ROUNDS_END,
    ProbeResult,
    RoundsResult,
    digest_of,
    timed_s,
)

if TYPE_CHECKING:
    from bench.measuring.worker.turns import Stopwatch


def probe(request: Request, channel: Channel) -> ProbeResult:
    """Call and check a reference that is no member of its block, before it joins the rounds.

    Raises:
        Incorrect: its output is wrong, so nothing may be compared with it.
    """
    import torch

    from bench.measuring.models.oracle import check
    from bench.measuring.models.subject import subject_of
    from bench.measuring.oracle.checking import keep

    cell = Cell.from_dict(request["cell"])
    torch.set_num_threads(cell.num_threads)
    channel.send(step="first call of the reference")
    subject = subject_of(cell)
    seconds = device_named(cell.device).time_calls(subject.call, 1)
    channel.send(step="oracle of the reference")
    checked = check(subject)
    if checked.expected is not None:
        keep(cell, checked.expected)
    return ProbeResult(measured_s=seconds)


def rounds(request: Request, channel: Channel) -> RoundsResult:
    """Time the members of a block in interleaved rounds, with new inputs in each.

    If members differ in their number of threads, it is set before each of their samples.

    Raises:
        JobFailed: a member has changed state that all of them share; the message names it.
    """
    import torch

    from bench.measuring.measure import load
    from bench.measuring.measure.latency import round_order, time_round
    from bench.measuring.measure.state import Watch
    from bench.measuring.worker.turns import Stopwatch, Turns

    cells = [Cell.from_dict(flat) for flat in request["cells"]]
    stopping = Stopping(**request["stopping"])
    device = device_named(cells[0].device)
    outside = Stopwatch()
    flush = _flusher(device, outside) if cells[0].timed.cache == "cold" else None
    are_alike = len({cell.num_threads for cell in cells}) == 1
    is_single = device.shares_cores and all(cell.num_threads == 1 for cell in cells)
    watch = Watch(threads=is_single)

    turns = []
    for cell in cells:
        channel.send(step=f"warm-up of {cell.entry}")
        turns.append(Turns(cell, device, stopping, watch, outside, sets_threads=not are_alike))
    members = [each.member for each in turns]

    # A call that compiles must not be timed.
    torch._dynamo.config.error_on_recompile = any(cell.timed.compile != "eager" for cell in cells)
    taken: list[list[float]] = []
    waited_s = _ask(channel, ROUNDS_BEGIN, outside)
    outside.go()
    card = device.readings()
    before = load.snapshot()
    stop = None
    while stop is None:
        order = round_order(len(members), request["order_seed"], len(taken))
        # In the order of the samples, so that as much time lies between new inputs and their use
        # for all members.
        for index in order:
            turns[index].renew(len(taken))
        taken.append(time_round([each.member for each in turns], order, device, flush))
        channel.send(round=taken[-1])
        if channel.is_stop_asked():
            stop = "interrupted"
        else:
            widths = half_widths(taken, request.get("references"), stopping)
            spent_s = now_s() - before.wall_s
            stop = stopping.verdict(
                num_rounds=len(taken),
                num_members=len(members),
                spent_s=spent_s,
                half_widths=widths,
            )
    outside.stop()
    waited_s += _ask(channel, ROUNDS_END, outside)
    observed = load.between(before, load.snapshot())
    for when, state in (("before", card), ("after", device.readings())):
        observed |= {f"{name}_{when}": value for name, value in state.items()}
    refuse(watch.last_change())
    torch._dynamo.config.error_on_recompile = False
    wrong = []
    for each in turns:
        channel.send(step=f"check of {each.cell.entry} after the rounds")
        wrong.append(each.why_wrong())
    counts = tuple(member.calls_per_sample for member in members)
    measured_s = sum(sum(member.warmup_s) for member in members)
    measured_s += timed_s(taken, counts)
    return RoundsResult(
        num_rounds=len(taken),
        digest=digest_of(taken),
        stop_reason=stop,
        warmup_s=tuple(member.warmup_s for member in members),
        calls_per_sample=counts,
        calls_per_set=tuple(each.calls_per_set for each in turns),
        cpu_per_wall=tuple(each.cpu_per_wall for each in turns),
        wrong=tuple(wrong),
        outside_s=outside.spent_s,
        waited_s=waited_s,
        load=observed,
        is_noisy=load.is_noisy(observed),
        measured_s=measured_s,
    )


def _ask(channel: Channel, step: str, outside: Stopwatch) -> float:
    """Have the parent read its clock; returns the seconds until it answers, counted as outside."""
    before = outside.spent_s
    outside.go()
    channel.ask(step=step)
    outside.stop()
    return outside.spent_s - before


def _flusher(device: Device, outside: Stopwatch) -> Callable[[], None]:
    flush = device.flusher()

    def flush_outside() -> None:
        outside.go()
        flush()
        outside.stop()

    return flush_outside


def half_widths(
    taken: list[list[float]], references: Sequence[int | None] | None, stopping: Stopping
) -> list[float] | None:
    """Half-widths of the intervals of members' ratios to their references.

    Samples are in seconds, by round and member; `references` has the index of the member that each
    member is compared with, None without one. None after other rounds, or if there is no ratio.
    """
    from bench.core.statistics import paired_ratio

    if not references or not stopping.is_check_due(len(taken)):
        return None
    numbers = range(len(taken))
    columns = list(zip(*taken, strict=True))
    ratios = [
        paired_ratio(samples, numbers, columns[reference], numbers)
        for samples, reference in zip(columns, references, strict=True)
        if reference is not None
    ]
    return [ratio.half_width for ratio in ratios if ratio is not None] or None
