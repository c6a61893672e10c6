"""What a plugin's cell needs, told in a process of its own: its code may do anything."""

from __future__ import annotations

from bench.cell import Cell
from bench.worker.channel import Channel
from bench.worker.outcome import Outcome, ok
from bench.worker.request import Request


def estimate(request: Request, channel: Channel) -> Outcome:
    """Bytes that a cell is expected to need; None if a dry run does not show them."""
    from bench.costs.estimate import needed_bytes

    channel.send(step="dry run")
    return ok(needed_bytes=needed_bytes(Cell.from_dict(request["cell"])))
