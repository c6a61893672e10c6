"""Estimate the memory of a plugin's cell in a process of its own: its code may do anything."""

from __future__ import annotations

from bench.core.cell import Cell
from bench.measuring.worker.channel import Channel
from bench.measuring.worker.request import Request
from bench.measuring.worker.results import EstimateResult


def estimate(request: Request, channel: Channel) -> EstimateResult:
    """Bytes that a cell is expected to need; None if a dry run cannot tell."""
    from bench.measuring.costs.estimate import needed_bytes

    channel.send(step="dry run")
    needed = needed_bytes(Cell.from_dict(request["cell"]))
    return EstimateResult(needed_bytes=needed, measured_s=0.0)
