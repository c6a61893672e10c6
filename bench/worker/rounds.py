"""The members of a block take turns, so that whatever slows the machine slows them alike."""

from __future__ import annotations

from collections.abc import Sequence

from bench.cell import Cell
from bench.measure.clock import clock_for, now_s
from bench.measure.stopping import Stopping
from bench.worker.channel import Channel
from bench.worker.request import Request
from bench.worker.results import ProbeResult, RoundsResult


def probe(request: Request, channel: Channel) -> ProbeResult:
    """One call of the reference, to know that it may join the rounds."""
    import torch

    from bench.models.subject import subject_of

    cell = Cell.from_dict(request["cell"])
    torch.set_num_threads(cell.num_threads)
    channel.send(step="first call of the reference")
    seconds = clock_for(torch.device(cell.device)).time_calls(subject_of(cell).call, 1)
    return ProbeResult(measured_s=seconds)


def rounds(request: Request, channel: Channel) -> RoundsResult:
    """The members of a block, in interleaved rounds.

    Members that differ in their number of threads get it set before each of their samples.
    """
    from dataclasses import replace
    from functools import partial

    import torch

    from bench.measure import load
    from bench.measure.cache import flusher
    from bench.measure.card import before_and_after, card_state
    from bench.measure.latency import round_order, time_round, warm_up
    from bench.models.subject import subject_of

    cells = [Cell.from_dict(flat) for flat in request["cells"]]
    stopping = Stopping(**request["stopping"])
    device = torch.device(cells[0].device)
    clock = clock_for(device)
    flush = flusher(device) if cells[0].timed.cache == "cold" else None
    are_alike = len({cell.num_threads for cell in cells}) == 1

    members = []
    measured_s = 0.0
    for cell in cells:
        channel.send(step=f"warm-up of {cell.entry}")
        torch.set_num_threads(cell.num_threads)
        subject = subject_of(cell)
        subject.rotate()
        member = warm_up(subject.call, clock, stopping.min_sample_s)
        set_threads = None if are_alike else partial(torch.set_num_threads, cell.num_threads)
        members.append(replace(member, prepare=set_threads))
        measured_s += sum(member.warmup_s)

    if any(cell.timed.compile != "eager" for cell in cells):
        torch._dynamo.config.error_on_recompile = True  # a call that compiles is none to be timed

    taken: list[list[float]] = []
    card = card_state(device)
    before = load.snapshot()
    stop = None
    while stop is None:
        order = round_order(len(members), request["order_seed"], len(taken))
        begun = now_s()
        taken.append(time_round(members, order, clock, flush))
        measured_s += now_s() - begun
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
    observed = load.between(before, load.snapshot())
    observed |= before_and_after(card, card_state(device))
    return RoundsResult(
        stop_reason=stop,
        warmup_s=tuple(m.warmup_s for m in members),
        calls_per_sample=tuple(m.calls_per_sample for m in members),
        load=observed,
        is_noisy=load.is_noisy(observed),
        measured_s=measured_s,
    )


def half_widths(
    taken: list[list[float]], references: Sequence[int | None] | None, stopping: Stopping
) -> list[float] | None:
    """Of each member's ratio to its reference; None without any, or when it is not time to look.

    Args:
        taken: samples, by round and member.
        references: the member that each member is compared with, if any.
        stopping: says when to look.
    """
    from bench.statistics import paired_ratio

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
