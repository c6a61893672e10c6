"""Jobs that need a plugin's cell without its call: why it is refused, and what memory it takes."""

from __future__ import annotations

from bench.core.cell import Cell
from bench.core.cli.texts import LIMITS, visible
from bench.measuring.worker.channel import Channel
from bench.measuring.worker.request import Request
from bench.measuring.worker.results import BuildResult, EstimateResult


def build(request: Request, channel: Channel) -> BuildResult:
    """Build cells on meta; sends ``asked=index`` before each, ``refused=reason`` after a refusal.

    Raises:
        BaseException: whatever a constructor raises at an ordinary shape as well.
    """
    from bench.measuring.support import build_ordinary, why_unbuildable

    for index, flat in enumerate(request["cells"]):
        cell = Cell.from_dict(flat)
        channel.send(step=f"build {cell.entry}", asked=index)
        if reason := why_unbuildable(cell):
            build_ordinary(cell)
            channel.send(refused=visible(reason, LIMITS["reason"]))
    return BuildResult(measured_s=0.0)


def estimate(request: Request, channel: Channel) -> EstimateResult:
    """Bytes that a cell is expected to need; None if a dry run cannot tell."""
    from bench.measuring.costs.estimate import needed_bytes

    channel.send(step="dry run")
    needed = needed_bytes(Cell.from_dict(request["cell"]))
    return EstimateResult(needed_bytes=needed, measured_s=0.0)
